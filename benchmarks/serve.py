"""How long from `serve` to a home page that can be used, in a real browser; beside it a bare Streamlit app's time in the same rounds.

    python -m benchmarks.serve [--rounds 7]

Target: 3 s. The bare app is what Streamlit itself costs on this machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.results import Result, emit, spread
from benchmarks.results import ratios as over
from store import Store
from tests.browser.conftest import CHROMIUM, serving
from tests.toy import make_run
from ui.serve import ROOT

TARGET = 3.0
BARE = "import streamlit as st\n\nst.title('Home')\n"
BARE_SERVER = "import streamlit as st\n\napp = st.App({path!r})\n"


def seconds(page: Page, store: Path, entry: Path, heading: str) -> float:
    """From the start of the server's process to the heading in the browser."""
    began = time.monotonic()
    with serving(store, entry) as url:
        page.goto(url)
        page.get_by_text(heading).first.wait_for()
        took = time.monotonic() - began
        page.goto("about:blank")
    return took


def main() -> None:
    """Rounds of both, in turn; medians and their ratio."""
    parser = argparse.ArgumentParser(description="How long from serve to a home page that can be used")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = Path(folder)
        store = Store(place / "store")
        make_run(store)
        (place / "bare.py").write_text(BARE)
        (place / "bare_server.py").write_text(BARE_SERVER.format(path=str(place / "bare.py")))
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
        kinds = {
            "sparsescope": (ROOT / "tests" / "browser" / "toy_server.py", "Toy coins"),
            "bare": (place / "bare_server.py", "Home"),
        }
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, (entry, heading) in kinds.items():
                times[kind].append(seconds(page, store.folder, entry, heading))
    for kind, taken in times.items():
        print(f"{kind}: median {statistics.median(taken):.2f} s, {min(taken):.2f} to {max(taken):.2f} s")
    ratios = [ours / bare for ours, bare in zip(times["sparsescope"], times["bare"])]
    print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    ours, bare = times["sparsescope"], times["bare"]
    emit(
        Result(
            "from `serve` to a home page that can be used", "in a real browser", "a bare Streamlit app", rounds=rounds,
            seconds=spread(ours)[0], beside_seconds=spread(bare)[0], wall=over(ours, bare),
            target=f"at most {TARGET:g} s", met=spread(ours)[0] <= TARGET,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
