"""README and docs say what is so: outputs, figures, paths and help texts are compared with what they describe."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed_figure
from benchmarks.cases import LAYERS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
SOURCE_FOLDERS = ("csrc", "fused_gan", "tests", "benchmarks", "docs", "findings")


def words(text: str) -> str:
    """Return the text with each run of spaces and line breaks as one space: pages are wrapped, outputs are not."""
    return " ".join(text.split())


def rows_of(text: str, separator: str = "|") -> list[list[str]]:
    """Return the cells of each table row in the text."""
    lines = [line for line in text.splitlines() if line.startswith(separator)]
    return [[cell.strip() for cell in line.strip(separator).split(separator)] for line in lines]


# ---- what examples print ---------------------------------------------------------------------------------------------


def examples(page: Path) -> list[tuple[str, str]]:
    """Return each block of Python, and the block of text behind it under the same heading; "" if there is none."""
    parts = re.split(r"^```(\w*)\n(.*?)^```\n", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    blocks = list(zip(parts[1::3], parts[2::3], parts[3::3], strict=True))  # language, content, prose behind it
    found = []
    for (language, code, prose), following in zip(blocks, [*blocks[1:], ("", "", "")], strict=True):
        if language == "python":
            found.append((code, following[1] if following[0] == "text" and "\n#" not in prose else ""))
    return found


EXAMPLES = [
    pytest.param(*example, id=f"{page.name} {index}")
    for page in (ROOT / "README.md", DOCS / "layers.md", DOCS / "fuse.md")
    for index, example in enumerate(examples(page))
]
XEON = "measured on a Xeon with AMX"  # the processor whose plan the pages show


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_an_example_prints_what_the_page_says(code: str, printed: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(code, encoding="utf-8")  # a file: `fuse(trace=True)` reads the source
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "FUSED_GAN_PLANS": str(tmp_path / "plans")}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected, actual = words(printed), words(done.stdout)
    if XEON in expected and not (XEON in actual and "(avx512)" in actual):  # other kernels run on this processor
        expected, actual = (
            re.sub(r"(forward: |backward: ).*?(?=backward: |\d+ of \d+)", r"\1", text) for text in (expected, actual)
        )
    assert actual == expected or not printed


def test_there_are_examples_with_and_without_output() -> None:
    outputs = [str(parameter.values[1]) for parameter in EXAMPLES]
    assert len(outputs) >= 5
    assert sum(map(bool, outputs)) >= 3


def test_the_output_of_doctor_has_the_rows_that_the_page_shows() -> None:
    """What a row says depends on the machine; which rows there are does not, but for devices."""
    done = subprocess.run(
        [sys.executable, "-m", "fused_gan.cli", "doctor"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )

    def names(text: str) -> list[str]:
        return [row[1] for row in rows_of(text, "│") if row[1] and not row[1].startswith(("cuda:", "kernels"))]

    shown = re.findall(r"^[│├┌└].*$", TEXTS["docs/install.md"], re.MULTILINE)
    assert names("\n".join(shown)) == names(done.stdout)
    excerpt = re.findall(r"^[│├┌└].*$", README, re.MULTILINE)
    assert len(excerpt) >= 5
    assert set(excerpt) <= set(shown)


# ---- figures of speed ------------------------------------------------------------------------------------------------

RECORDS = {name: speed_figure.read(name) for name in speed_figure.PROCESSORS}  # Zen 4's, the Xeon's, Zen 3's
SUMMARIES = [speed_figure.summaries(records) for records in RECORDS.values()]
BY_NAME = [{record["name"]: record for record in records} for records in RECORDS.values()]
FUNCTIONS = {
    "networks, forward + backward, float32": "chain",
    "networks, forward + backward, bfloat16": "chain_bfloat16",
    "networks, forward + backward, float16": "chain_float16",
    "layers, forward": "forward",
    "layers, forward + backward": "forward_backward",
    "layers, forward + backward, float32": "forward_backward",
    "layers, forward + backward, bfloat16, batch 64": "forward_backward_bfloat16",
    "layers, forward + backward, float16, batch 64": "forward_backward_float16",
    "step of `fused-gan train mlp-gan`, the best stock loop ÷ ours": "trainer_step",
}
STEPS = {  # rows of docs/benchmarks.md with both batches: benchmark function and the other side
    "the tutorials' training loop, its networks through `fuse()`, batch 64 and 256": ("loop", "eager"),
    "`fused-gan train`'s step against the best loop in stock PyTorch, batch 64 and 256": ("trainer_step", "eager"),
    "the same against the tutorials' loop": ("trainer_step", "usual"),
}


@pytest.mark.parametrize(("page", "fewest"), [("README.md", 4), ("docs/benchmarks.md", 7)])
def test_the_tables_of_speed_are_those_of_the_results(page: str, fewest: int) -> None:
    found = 0
    for label, *cells in rows_of(TEXTS[page]):
        if label not in FUNCTIONS:
            continue
        found += 1
        for cell, summaries in zip(cells, SUMMARIES, strict=True):
            summary = summaries.get(FUNCTIONS[label])
            assert (cell == "not measured") == (summary is None), label
            if summary is not None:
                shown = f"{summary.mean:.2f}, {summary.worst:.2f} ({summary.cases})"
                assert cell.replace("worst ", "") == shown, label
    assert found >= fewest


def test_the_table_of_steps_is_that_of_the_results() -> None:
    cells = {row[0]: row[1:] for row in rows_of(TEXTS["docs/benchmarks.md"])}
    for label, (function, other) in STEPS.items():
        for cell, results in zip(cells[label], BY_NAME, strict=True):
            ratios = [results[f"bench_{function}[{batch}]"]["ratio"][other] for batch in (64, 256)]
            assert cell == " and ".join(f"{ratio:.2f}" for ratio in ratios), label


def milliseconds(record: dict[str, Any]) -> str:
    return f"{record['median']['fused_gan'] * 1e3:.2f}"


def of_network(record: dict[str, Any]) -> list[str]:
    ratio = record["ratio"]
    numbers = (ratio["eager"], ratio["compile"], 1 / ratio["floor"])
    return [milliseconds(record), *(f"{number:.2f}" for number in numbers)]


def test_the_tables_of_networks_are_those_of_the_results() -> None:
    zen4, xeon, zen3 = BY_NAME
    networks = ("generator", "tanh generator", "discriminator", "VAE decoder")
    found = {"docs/benchmarks.md": 0, "docs/design/cpu-kernels.md": 0}
    for page in found:
        for label, *cells in rows_of(TEXTS[page]):
            network, _, batch = label.partition(", ")
            if network not in networks or not batch.isdigit():
                continue
            found[page] += 1
            case = f"[{network}-{batch}]"
            if page == "docs/benchmarks.md":
                bfloat16 = zen4[f"bench_chain_bfloat16{case}"]["ratio"]["eager"]
                assert cells == [*of_network(zen4[f"bench_chain{case}"]), f"{bfloat16:.2f}"], label
            elif len(cells) == 4:
                assert cells == of_network(zen3[f"bench_chain{case}"]), label
            else:
                records = [xeon[f"bench_chain{dtype}{case}"] for dtype in ("", "_bfloat16", "_float16")]
                best = [min(record["ratio"]["eager"], record["ratio"]["compile"]) for record in records]
                shown = [f"{milliseconds(record)}, {ratio:.2f}" for record, ratio in zip(records, best, strict=True)]
                assert cells == shown, label
    assert found == {"docs/benchmarks.md": 12, "docs/design/cpu-kernels.md": 24}


def test_the_readme_names_the_worst_case_of_each_processor() -> None:
    layers = {layer.name: f"{layer.in_features} → {layer.out_features}" for layer in LAYERS}
    for summaries in SUMMARIES:
        worst = min(summaries.values(), key=lambda summary: summary.worst)
        layer, _, batch = worst.worst_case.rpartition("-")
        assert f"{layers[layer]} at batch {batch} ({worst.worst:.2f})" in words(README)


def test_the_figure_shows_the_committed_results(tmp_path: Path) -> None:
    committed, drawn = speed_figure.FIGURE.read_text(encoding="utf-8"), tmp_path / "speed.svg"
    speed_figure.draw(drawn)

    def labels(text: str) -> list[str]:
        return re.findall(r"<text[^>]*>([^<]*)</text>", text)

    assert labels(committed) == labels(drawn.read_text(encoding="utf-8"))
    shown = [str(found[group]) for found in SUMMARIES for group in speed_figure.GROUPS if group in found]
    assert [label for label in labels(committed) if "worst " in label and label[0].isdigit()] == shown
    assert labels(committed).count("not measured") == len(SUMMARIES) * len(speed_figure.GROUPS) - len(shown)


def test_a_summary_by_hand() -> None:
    records = [
        {"name": "bench_chain[generator-1]", "ratio": {"eager": 2.0}},
        {"name": "bench_chain[generator-16]", "ratio": {"eager": 0.5}},
        {"name": "bench_forward[generator 1-64]", "ratio": {"eager": 1.25}},
    ]
    found = speed_figure.summaries(records)
    assert found["chain"] == speed_figure.Summary(2, 1.0, 0.5, "generator-16")
    assert str(found["forward"]) == "1.25, worst 1.25"


# ---- help texts, paths, pages ----------------------------------------------------------------------------------------


def test_the_page_of_commands_is_their_help() -> None:
    """Line breaks do not count, as they depend on the version of the parser."""
    page = runpy.run_path(str(DOCS / "commands.py"))["page"]
    assert words(page()) == words(TEXTS["docs/commands.md"]), "make commands writes the page again"


def test_every_page_is_in_the_index() -> None:
    index = TEXTS["docs/README.md"]
    for page in DOCS.rglob("*.md"):
        if page != DOCS / "README.md":
            assert f"]({page.relative_to(DOCS)})" in index, page


def test_every_heading_that_a_link_names_exists() -> None:
    def anchors(text: str) -> set[str]:
        headings = re.findall(
            r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
        )
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
        }  # as GitHub makes them

    links = [(page, *found) for page, text in TEXTS.items() for found in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text)]
    assert len(links) > 10
    for page, target, anchor in links:
        text = (ROOT / page).parent / target if target else ROOT / page
        assert anchor in anchors(text.read_text(encoding="utf-8")), f"{page} links {target}#{anchor}"


def files_of_the_repository() -> list[str]:
    paths = [*ROOT.iterdir(), *(path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*"))]
    return [str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts]


def test_every_path_that_a_page_names_exists() -> None:
    """`csrc/cpu/plan.h`, `tests/cuda/`, and names of sources alone, which may lie anywhere."""
    files = files_of_the_repository()
    folders = {str(parent) for file in files for parent in Path(file).parents}
    missing = set()
    for name, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for path in re.findall(r"`([\w./-]+)`", prose):
            of_sources = path.split("/")[0] in SOURCE_FOLDERS and "/" in path
            if not of_sources and not re.search(r"\w\.(py|h|cpp|cu|cuh|inl)$", path):
                continue
            if path.rstrip("/") not in folders and not any(f"/{file}".endswith(f"/{path}") for file in files):
                missing.add(f"{name}: {path}")
    assert not missing, "\n".join(sorted(missing))


def test_every_page_that_a_source_names_exists() -> None:
    missing = set()
    for file in files_of_the_repository():
        if not re.search(r"\.(py|h|cpp|cu|cuh|inl)$|Makefile$", file) or Path(file).name == Path(__file__).name:
            continue
        for page in re.findall(r"\bdocs/[\w./-]+\.md", (ROOT / file).read_text(encoding="utf-8")):
            if not (ROOT / page).exists():
                missing.add(f"{file}: {page}")
    assert not missing, "\n".join(sorted(missing))


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_names_no_folder_of_a_machine_and_no_registry(page: str) -> None:
    of_a_machine = r"(?<![\w~.])/(?:home|root|work|tmp|mnt)/\S*"
    assert not re.findall(rf"{of_a_machine}|pypi\.org\S*|download\.pytorch\.org\S*", TEXTS[page])
