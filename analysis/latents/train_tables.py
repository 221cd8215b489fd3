"""Tables of `sae_train`: what each column means, in which unit and range."""

from __future__ import annotations

from analysis.spec import Column, Table

STEPS = Table(
    name="sae_steps",
    meaning="The course of training: one row per step that was kept, about 200 of them.",
    key=("step",),
    columns=(
        Column("step", "int", "steps of training done", unit="steps"),
        Column("n_samples", "int", "activations trained on so far, each as often as it was used", unit="activations"),
        Column("loss", "float", "the whole loss of this batch, inputs scaled as the SAE was told", range=(0.0, 1e30)),
        Column("l0", "float", "latents active on an activation, mean over the batch", unit="latents", range=(0.0, 1e12)),
        Column(
            "explained_variance", "float",
            "1 - |x - x_hat|^2 / |x - batch mean|^2, sums over the batch; NULL where the batch does not vary", unit="share", optional=True,
            evidence="C",
        ),
        Column("dead_share", "float", "latents that were active on nothing for the last dead_window steps, of all latents", unit="share",
               range=(0.0, 1.0), evidence="C"),
        Column("learning_rate", "float", "learning rate of this step", range=(0.0, 1e6)),
    ),
)  # fmt: skip
LOSSES = Table(
    name="sae_losses",
    meaning="Each term of the loss at every step that was kept, by sae-lens' names; they add up to the loss.",
    key=("step", "term"),
    columns=(
        Column("step", "int", "steps of training done", unit="steps"),
        Column("term", "str", "which term: mse_loss (sum over dimensions, mean over activations), l1_loss, l0_loss, ..."),
        Column("value", "float", "the term, with its coefficient", evidence="C"),
    ),
)
SAES = Table(
    name="saes",
    meaning="The SAE that came out, and what it is worth on documents it was not trained on: one row.",
    key=("hook_name",),
    columns=(
        Column("hook_name", "str", "where it reads and writes, as TransformerLens calls it"),
        Column("place", "str", "the same by our name"),
        Column("layer", "int", "layer of the place, from 0"),
        Column("kind", "str", "what the place is: residual, mlp_out, attention_out, attention_z, ffn, ..."),
        Column("architecture", "str", "architecture it was trained with, by sae-lens' name"),
        Column("saved_as", "str", "architecture it was saved as: what opens it"),
        Column("width", "int", "width of the place", unit="dimensions"),
        Column("n_latents", "int", "latents of the SAE", unit="latents"),
        Column("n_steps", "int", "steps of training", unit="steps"),
        Column("n_samples", "int", "activations trained on, each as often as it was used", unit="activations"),
        Column("n_tokens", "int", "different tokens trained on", unit="tokens"),
        Column("n_held_out", "int", "tokens of held-out documents it was judged on", unit="tokens"),
        Column("n_documents", "int", "held-out documents it was judged on", unit="documents"),
        Column("explained_variance", "float",
               "1 - FVU on held-out tokens, about their mean per dimension; NULL where they do not vary", unit="share", optional=True),
        Column("explained_variance_low", "float", "lower end of its 95 % interval over documents; NULL where there is none", optional=True),
        Column("explained_variance_high", "float", "upper end of that interval; NULL where there is none", optional=True),
        Column("explained_variance_training", "float",
               "median over the last batches of training: far above that on held-out tokens, the SAE has learned its training tokens by "
               "heart; NULL where no batch varied", unit="share", optional=True),
        Column("l0", "float", "latents active on a held-out token, mean; NULL where there was no token", unit="latents", optional=True),
        Column("dead_share", "float", "latents active on none of the held-out tokens, of all latents", unit="share", range=(0.0, 1.0)),
        Column("mean_max_cosine", "float",
               "mean over known features of their largest cosine with a decoder direction; NULL where the model's features are not known",
               unit="cosine", range=(-1.0, 1.0), optional=True),
        Column("file_bytes", "int", "size of its weights", unit="bytes"),
    ),
    summary=True,
)  # fmt: skip
FEATURES = Table(
    name="sae_features",
    meaning="Features the model is known to have, and the latent that comes nearest to each; empty where none are known.",
    key=("feature",),
    columns=(
        Column("feature", "int", "number of the known feature, from 0"),
        Column("latent", "int", "latent whose decoder direction has the largest cosine with it"),
        Column("cosine", "float", "that cosine", unit="cosine", range=(-1.0, 1.0)),
    ),
)
DOCUMENTS = Table(
    name="sae_documents",
    meaning="Which documents the SAE was trained on, and which were held out to judge it.",
    key=("document",),
    columns=(
        Column("document", "int", "number of the document in the data"),
        Column("name", "str", "name of the document"),
        Column("role", "str", "training or held out"),
        Column("n_windows", "int", "windows read of it; 0 where it was held out and not needed", unit="windows"),
    ),
)
TABLES = (SAES, STEPS, LOSSES, FEATURES, DOCUMENTS)
