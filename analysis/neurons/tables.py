"""The tables of `neuron_activity`: every column with its type, unit, meaning and range."""

from __future__ import annotations

from analysis.spec import Column, ColumnType, Evidence, Table

SHARE = (0.0, 1.0)
_MANY = (0, 1e15)
SITE_KEY = ("layer", "hook_name")
KEY = (*SITE_KEY, "neuron")
NO_ZEROS = "NULL for activation functions without exact zeros"

_SITE = (
    Column("layer", "int", "Rank of the block, from 0, by first execution", range=(0, 1e6)),
    Column("hook_name", "str", "Name of the site: TransformerLens' where its bridge knows the model, else the module path"),
)
_UNIT = (*_SITE, Column("neuron", "int", "Coordinate of the FFN inner activation, from 0", range=(0, 1e9)))


def _count(name: str, meaning: str, unit: str) -> Column:
    return Column(name, "int", meaning, unit=unit, range=_MANY)


def _share(name: str, meaning: str, unit: str = "share", *, optional: bool = False, evidence: Evidence | None = None) -> Column:
    return Column(name, "float", meaning, unit=unit, range=SHARE, optional=optional, evidence=evidence)


def _value(name: str, meaning: str, unit: str = "activation", *, optional: bool = False, kind: ColumnType = "float") -> Column:
    return Column(name, kind, meaning, unit=unit, optional=optional)


LAYERS = Table(
    "layers",
    "A row per site: how many of its neurons are dead, rare, normal or dense, and how sparse its tokens are.",
    SITE_KEY,
    (
        *_SITE,
        Column("activation", "str", "Activation function seen in the forward pass"),
        Column("gated", "bool", "Whether it is multiplied by an up projection"),
        Column("active_rule", "str", "What active means at this site"),
        _count("n_neurons", "Neurons of the site", "neurons"),
        _count("n_dead", "Dead: silent on enough tokens to say so, or dead by their weights", "neurons"),
        _count("n_rare", "Rare: density below the rare cut-off", "neurons"),
        _count("n_undecided", "Undecided: too few tokens to tell", "neurons"),
        _count("n_normal", "Normal: density between the cut-offs", "neurons"),
        _count("n_dense", "Dense: density above the dense cut-off", "neurons"),
        _count("n_silent", "Silent: active on none of the tokens, whether or not that is enough to call them dead", "neurons"),
        Column(
            "n_static_dead",
            "int",
            "Cannot fire or cannot matter because of their weights; NULL where the matrices could not be told apart",
            unit="neurons",
            range=_MANY,
            optional=True,
            evidence="K",
        ),
        _count("n_constant", "The same value on every token", "neurons"),
        _count("n_tokens", "Tokens seen by the site; padding is never seen", "tokens"),
        _count("n_windows", "Windows read", "windows"),
        _count("n_documents", "Documents read", "documents"),
        _share("density", "Mean share of neurons active on a token", "share of neurons", evidence="O"),
        _value("density_low", "Lower end of its 95 % interval over documents; NULL for a single document", "share of neurons", optional=True),
        _value("density_high", "Upper end of that interval; NULL for a single document", "share of neurons", optional=True),
        Column("lazy_percent", "float", f"Non-zero activations per token, on average (lazy neuron); {NO_ZEROS}", "%", (0, 100), True, "3"),
        _share("dynamic_dead_rate", f"Neurons that are zero on a token though not static dead, on average (dDNR); {NO_ZEROS}", optional=True, evidence="K"),
        _share("hoyer", "Mean Hoyer sparsity of a token's activations; NULL where every token is all zero", optional=True, evidence="K"),
        _share("gini", "Mean Gini of a token's activations, on a seeded sample; NULL where every sampled token is all zero", optional=True, evidence="K"),
        _count("gini_n", "Tokens in that sample", "tokens"),
        Column("expected_wakes", "float", "Silent neurons expected to fire if as many documents again were read (smoothed Good-Toulmin)", "neurons", _MANY, evidence="O"),
        _share("silent_document_bound", "With 95 % confidence a silent neuron fires in less than this share of such documents: 1 - 0.05^(1/D)"),
        _share("silent_token_bound", "The same for tokens if they were independent, which they are not: an estimate"),
        _count("n_nonfinite", "Values that were NaN or infinite, left out of every other number", "values"),
    ),
    summary=True,
)  # fmt: skip

NEURONS = Table(
    "neurons",
    "A row per neuron.",
    KEY,
    (
        *_UNIT,
        Column("class", "str", "dead, rare, undecided, normal or dense (docs/decisions/0003-undecided.md)"),
        Column("static_class", "str", "dead_in, dead_out, constant or alive, from the weights alone; NULL where the matrices could not be told apart", optional=True, evidence="K"),
        Column("constant", "bool", "The same value on every token seen"),
        _count("n_tokens", "Tokens the neuron was seen on", "tokens"),
        _count("n_windows", "Windows read", "windows"),
        _count("n_documents", "Documents read", "documents"),
        _count("n_active", "Tokens it was active on", "tokens"),
        _count("windows_active", "Windows it was active in", "windows"),
        _count("documents_active", "Documents it was active in", "documents"),
        _share("density", "n_active / n_tokens", "share of tokens", evidence="O"),
        _share("density_low", "Lower end of the 95 % Clopper-Pearson interval as if tokens were independent: an estimate", "share of tokens"),
        _share("density_high", "Upper end of that interval", "share of tokens"),
        _share("document_low", "Lower end of the 95 % Clopper-Pearson interval of the share of documents it is active in", "share of documents"),
        _share("document_high", "Upper end of it; for a silent neuron the one-sided bound 1 - 0.05^(1/D)", "share of documents"),
        Column("n_nonzero", "int", f"Tokens with a value other than exactly 0; {NO_ZEROS}", "tokens", _MANY, True),
        _share("density_nonzero", f"n_nonzero / n_tokens; {NO_ZEROS}", "share of tokens", optional=True, evidence="3"),
        Column("documents_nonzero", "int", f"Documents with such a token; {NO_ZEROS}", "documents", _MANY, True),
        Column("contribution", "float", "Mean of |a| |w_out| / |FFN(x)| over tokens; NULL where no FFN output is at hand", "share of the output norm", (0, 1e300), True, "O"),
        _value("mean", "Mean over tokens"),
        Column("second_moment", "float", "Mean square over tokens", "activation squared", (0, 1e300)),
        Column("kurtosis", "float", "Excess kurtosis over tokens: 0 for a normal distribution; NULL for a constant neuron", "", (-2.000001, 1e300), True, "K"),
        _value("min", "Smallest value"),
        _value("max", "Largest value"),
        Column("mean_active", "float", "Mean of |a| over active tokens; NULL for a silent neuron", "activation", (0, 1e300), True),
        Column("in_norm", "float", "Norm of its input weights (gate path where gated); NULL where the matrices could not be told apart", "", (0, 1e300), True),
        Column("up_norm", "float", "Norm of its up weights; NULL where not gated or not told apart", "", (0, 1e300), True),
        Column("out_norm", "float", "Norm of its output weights; NULL where they could not be read as a matrix", "", (0, 1e300), True),
        *(
            column
            for path, words in (("gate", "act(gate)"), ("up", "up"))
            for column in (
                _value(f"{path}_mean", f"Mean of {words}; NULL where not gated", optional=True),
                Column(f"{path}_second_moment", "float", f"Mean square of {words}; NULL where not gated", "activation squared", (0, 1e300), True),
                _value(f"{path}_min", f"Smallest {words}; NULL where not gated", optional=True),
                _value(f"{path}_max", f"Largest {words}; NULL where not gated", optional=True),
                _share(f"{path}_positive", f"Share of tokens with {words} above 0; NULL where not gated", "share of tokens", optional=True),
            )
        ),
    ),
)  # fmt: skip

DENSITIES = Table(
    "neuron_densities",
    "How often each neuron's magnitude reaches a threshold: a row per threshold and neuron, so that thresholds move without a rerun.",
    ("threshold", *KEY),
    (
        Column("threshold", "float", "|a| at or above this; a power of two, hence an edge of the histogram", "activation", (0, 1e6)),
        *_UNIT,
        _count("n_active", "Tokens with |a| >= threshold", "tokens"),
    ),
)

HISTOGRAMS = Table(
    "neuron_histograms",
    "Histogram of each neuron's values over fixed edges (docs/decisions/0001-histogram-bins.md): the bins that are not empty.",
    KEY,
    (
        *_UNIT,
        Column(
            "bins", "list[int]", "Bin numbers, ascending in value: 0 overflow below, 257 around zero, 514 overflow above", range=(0, 514)
        ),
        Column("counts", "list[int]", "Tokens in each of them", "tokens", _MANY),
    ),
)

EXAMPLES = Table(
    "neuron_examples",
    "Where each neuron peaks: at most one example per window; the text is in `windows`.",
    (*KEY, "kind", "rank"),
    (
        *_UNIT,
        Column("kind", "str", "top: largest values, duplicates of the same five tokens left out; bottom: smallest; quantile: window maxima of a seeded sample"),
        Column("rank", "int", "0 for the most extreme; for quantiles 0 for the largest", range=(0, 1000)),
        _value("value", "Activation at the peak"),
        Column("quantile", "float", "Share of the sampled windows whose maximum is at most this one; NULL for top and bottom", "share of windows", SHARE, True),
        _count("window", "Row of `windows`", ""),
        _count("position", "Position of the peak in its window, from 0", "tokens"),
        _count("first", "Position of the first token of `strip`", "tokens"),
        Column("strip", "list[int]", "Activations of the tokens around the peak, in thousandths of the largest |a| among them", "1/1000"),
    ),
)  # fmt: skip

WINDOWS = Table(
    "windows",
    "The text the examples point into.",
    ("window",),
    (
        _count("window", "Number of the window", ""),
        Column("document", "str", "Name of its document"),
        _count("start", "Place of its first token in the document", "tokens"),
        Column("token_ids", "list[int]", "Token ids; NULL where the inputs are not tokens", range=_MANY, optional=True),
        Column("tokens", "list[str]", "Each token's exact piece of text; NULL where the inputs are not tokens", optional=True),
    ),
    order=("window",),
)

DENSITY_BINS = Table(
    "density_bins",
    "How many neurons of each site have which density: four bins per decade; silent neurons apart.",
    (*SITE_KEY, "low"),
    (
        *_SITE,
        _share("low", "Lower edge; 0 for silent neurons", "share of tokens"),
        _share("high", "Upper edge", "share of tokens"),
        _count("n_neurons", "Neurons with low <= density < high (the last bin includes 1)", "neurons"),
    ),
)

_GROUP = (
    _SITE[0],
    Column("expert_group", "str", "What the router chooses from: the stack of matrices, or the path of the list of experts"),
)
NO_TOKENS = "NULL where no expert of the group got a token"

EXPERTS = Table(
    "experts",
    "A row per expert of a mixture-of-experts layer, also where no token was sent to it; empty for models without experts.",
    SITE_KEY,
    (
        *_SITE,
        _GROUP[1],
        Column("expert", "int", "Number of the expert in its group, from 0", range=(0, 1e6)),
        _count("n_tokens", "Tokens sent to it; 0 where none were; padding is never counted", "tokens"),
        _share("share", f"n_tokens / token-expert pairs of the group; {NO_TOKENS}", "share of token-expert pairs", optional=True),
        Column("load", "float", f"Tokens sent to it / tokens sent to an expert on average: 1 is its fair share; {NO_TOKENS}", "x the mean", (0, 1e6), True, "O"),
        _count("documents_reached", "Documents with a token that was sent to it", "documents"),
        _count("n_documents", "Documents read", "documents"),
    ),
)  # fmt: skip

EXPERT_LAYERS = Table(
    "expert_layers",
    "A row per group of experts: how many a token is sent to, and how evenly; empty for models without experts.",
    ("layer", "expert_group"),
    (
        *_GROUP,
        _count("n_experts", "Experts of the group", "experts"),
        _count("n_idle", "Experts that got none of the tokens", "experts"),
        _count("n_tokens", "Tokens read", "tokens"),
        _count("n_unsent", "Tokens that were sent to none of them (over capacity, or dropped)", "tokens"),
        _count("n_pairs", "Token-expert pairs", "pairs"),
        Column("experts_per_token", "float", "n_pairs / n_tokens; NULL where no token was read", "experts", (0, 1e6), True, "O"),
        Column("largest_load", "float", f"Tokens sent to the busiest expert / to an expert on average; {NO_TOKENS}", "x the mean", (0, 1e6), True, "O"),
        Column("imbalance", "float", f"Standard deviation / mean of the experts' token counts; 0 is even; {NO_TOKENS}", "", (0, 1e3), True, "K"),
        _share("evenness", f"Entropy of the experts' shares / ln(experts); 1 is even; {NO_TOKENS}", "", optional=True, evidence="K"),
        _count("n_documents", "Documents read", "documents"),
    ),
    summary=True,
)  # fmt: skip

EXPERTS_PER_TOKEN = Table(
    "experts_per_token",
    "How many experts of a group tokens are sent to: a row per number that occurs.",
    ("layer", "expert_group", "n_experts"),
    (
        *_GROUP,
        _count("n_experts", "Experts a token was sent to", "experts"),
        _count("n_tokens", "Tokens sent to so many", "tokens"),
        _share("share", "n_tokens / tokens read", "share of tokens"),
    ),
)

TABLES = (LAYERS, NEURONS, EXPERT_LAYERS, EXPERTS, EXPERTS_PER_TOKEN, DENSITY_BINS, DENSITIES, HISTOGRAMS, EXAMPLES, WINDOWS)
