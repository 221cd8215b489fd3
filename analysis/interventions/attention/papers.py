"""Where the methods on attention come from; light, since the catalogue reads it."""

from __future__ import annotations

from analysis.spec import Source

ONE_SIZE = Source("Attention weights below one size for the whole model", "this project's operational definition", "O")
RANDOM_KEYS = Source("A fixed model whose queries see random keys", "this project's operational definition of robustness to it", "O")
TOP_K = Source("Memory-efficient Transformers via Top-k Attention", "Gupta et al. 2021, arXiv 2106.06899", "K")
STREAMING = Source("Efficient Streaming Language Models with Attention Sinks", "Xiao et al., ICLR 2024, arXiv 2309.17453", "C")
SEER = Source("SeerAttention: Learning Intrinsic Sparse Attention in Your LLMs", "Gao et al. 2024, arXiv 2410.13276", "C")
MINFERENCE = Source(
    "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
    "Jiang et al., NeurIPS 2024, arXiv 2407.02490",
    "C",
)
H2O = Source("H2O: Heavy-Hitter Oracle for Efficient Generative Inference of LLMs", "Zhang et al., NeurIPS 2023, arXiv 2306.14048", "C")
KEYFORMER = Source("Keyformer: KV Cache Reduction through Key Tokens Selection", "Adnan et al., MLSys 2024, arXiv 2403.09054", "C")
ALISA = Source("ALISA: Accelerating LLM Inference via Sparsity-Aware KV Caching", "Zhao et al., ISCA 2024, arXiv 2403.17312", "3")
ZIPVL = Source("ZipVL: Efficient Large Vision-Language Models with Dynamic Token Sparsification", "He et al. 2024, arXiv 2410.08584", "K")
DOUBLE = Source("Post-Training Sparse Attention with Double Sparsity", "Yang et al. 2024, arXiv 2408.07092", "C")
HIP = Source(
    "A Training-free Sub-quadratic Cost Transformer Model Serving Framework with Hierarchically Pruned Attention",
    "Lee et al. 2024, arXiv 2406.09827",
    "C",
)
MOA = Source("MoA: Mixture of Sparse Attention for Automatic LLM Compression", "Fu et al. 2024, arXiv 2406.14909", "C")
SSA = Source(
    "The Information Pathways Hypothesis: Transformers are Dynamic Self-Ensembles", "Hussain et al., KDD 2023, arXiv 2306.01705", "3"
)
SCATTERBRAIN = Source(
    "Scatterbrain: Unifying Sparse and Low-rank Attention Approximation", "Chen et al., NeurIPS 2021, arXiv 2110.15343", "C"
)
