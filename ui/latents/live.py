"""Test your own text with a latent: the neurons' panel, asked of an SAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.given_sae import SAE
from store import RunInfo
from ui.latents.examples import rows_of
from ui.latents.latent_page import Row
from ui.latents.saes import Sae
from ui.neurons.live_panel import Tested, show_live
from ui.neurons.live_texts import texts_of


class TestedLatent(Tested):
    """One latent of one SAE."""

    noun = "latent"
    counted = "special tokens and the first one are read, too, which the run may have left out"

    def __init__(self, sae: Sae, run: RunInfo, latent: int, row: Row) -> None:
        super().__init__(run, sae.layer or 0, sae.hook_name, latent)
        self._sae, self._row = sae, row

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of which SAE it is."""
        return {SAE: self._sae.reference}

    def texts(self) -> Mapping[str, str]:
        """Its examples, to begin with."""
        return texts_of(rows_of(self._sae.examples, self.neuron)) if self._sae.examples else {}

    def recorded(self) -> Mapping[str, Any]:
        """Its row of `latents`."""
        return self._row


def live_latent(sae: Sae, run: RunInfo, latent: int, row: Row) -> None:
    """The panel, for an SAE whose files are in this store; for any other the sentence why there is none."""
    if sae.reference:
        show_live(TestedLatent(sae, run, latent, row))
    else:
        st.subheader("A text of your own", anchor=False)
        st.caption(
            "Only an SAE that was trained into this store can be tried on a text here: it is not kept where the files of this one lie."
        )
