"""A model card (Mitchell et al. 2019) written from a manifest, so that it says what the manifest says."""

from collections.abc import Iterator

from .bundle import Bundle
from .manifest import ColumnRecord, Provenance

NOT_FOR = (
    "Not for decisions about people: hiring, policing, border control, credit, medicine. Recognising emotions at work "
    "and in education is forbidden in the European Union (Regulation 2024/1689, article 5), and biometric "
    "identification needs a legal ground and the consent of the people concerned. An emotion column says how a face "
    "would be named by those who labelled FER+, not what a person feels; gender and age columns repeat the labels of "
    "their data, which know two genders and were partly guessed."
)


def model_card(bundle: Bundle) -> str:
    """Markdown: what the model is, how it was made, how good it is and for whom, and what it is not for."""
    return "\n".join(_lines(bundle)) + "\n"


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    yield f"# Model card: {manifest.name}, version {bundle.version}"
    yield ""
    yield (
        f"Preset `{manifest.preset}`; input one grey aligned face of {manifest.preprocessing.size}x"
        f"{manifest.preprocessing.size} pixels, each standardised by itself. Written by `face-mtl models card`."
    )
    yield ""
    yield "| part | sources | labels | temperature | trained by | epochs | seed |"
    yield "|---|---|---|---|---|---|---|"
    for part, made_by in _parts(bundle):
        if part.startswith("encoder"):
            yield f"| {part} | | | | {_made(made_by)} |"
    for column in manifest.columns:
        labels = ", ".join(column.labels) if len(column.labels) <= 10 else f"{len(column.labels)} people"
        labels = f"{column.dimensions} dimensions" if column.kind == "embedding" else labels
        foreign = [f"descriptor {column.descriptor.name}"] if column.descriptor else []
        sources = ", ".join([*(["encoder"] if column.skip else []), *column.sources, *foreign])
        yield f"| {column.task} | {sources} | {labels} | {column.temperature:.3f} | {_made(column.provenance)} |"
        for earlier in _earlier(column.provenance):
            yield f"| {column.task}, earlier | | | | {_made(earlier)} |"
    yield ""
    yield "## Data and terms"
    yield ""
    for part, made_by in _parts(bundle):
        data = ", ".join(f"{name} ({count} pictures)" for name, count in made_by.samples.items())
        yield f"- {part}: {data}. {made_by.terms}. Made with torch {made_by.torch_version}, {made_by.date}."
    for name, descriptor in manifest.descriptors.items():
        terms = descriptor.terms or "terms not stated"
        yield f"- descriptor {name}, which is not part of the bundle: {descriptor.source}. {terms}."
    yield ""
    yield "## How good it is"
    yield ""
    yield "Shares in per cent, on pictures that training did not see; ± is the standard error over seeds."
    for column in manifest.columns:
        yield from _figures(column)
    yield ""
    yield "## What it is not for"
    yield ""
    yield NOT_FOR


def _parts(bundle: Bundle) -> Iterator[tuple[str, Provenance]]:
    yield "encoder", bundle.manifest.encoder.provenance
    for earlier in _earlier(bundle.manifest.encoder.provenance):
        yield "encoder, earlier", earlier
    for column in bundle.manifest.columns:
        yield column.task, column.provenance
        for earlier in _earlier(column.provenance):
            yield f"{column.task}, earlier", earlier


def _earlier(made_by: Provenance) -> Iterator[Provenance]:
    """The records of the trainings that this one began with, the last first."""
    while made_by.begun_from:
        made_by = made_by.begun_from
        yield made_by


def _made(made_by: Provenance) -> str:
    return f"`{made_by.command}` | {made_by.epochs:g} | {made_by.seed}"


def _figures(column: ColumnRecord) -> Iterator[str]:
    metrics = column.metrics
    for dataset in sorted({"/".join(name.split("/")[:2]) for name in metrics if name.count("/") >= 2}):
        found = {name.removeprefix(f"{dataset}/"): value for name, value in metrics.items() if name.startswith(dataset)}
        yield ""
        yield f"### {column.task} on {dataset.replace('/', ', ')}, {found.get('n', 0):.0f} pictures"
        yield ""
        yield "| figure | |"
        yield "|---|---|"
        plain = [name for name in found if "/" not in name and name not in ("n", "people", "draws")]
        for name in plain:
            over = ""
            if f"{name}/mean" in found and metrics.get("seeds", 1) > 1:
                mean, error = _percent(name, found[f"{name}/mean"]), _percent(name, found[f"{name}/error"])
                over = f" ({mean} ± {error} over {metrics['seeds']:.0f} seeds)"
            yield f"| {name.replace('_', ' ')} | {_percent(name, found[name])}{over} |"
        # "sex/female" and, beside it, "sex/female/n"; combinations have another slash each.
        groups = [name for name in found if f"{name}/n" in found]
        if groups:
            yield ""
            yield "| group | pictures | accuracy |"
            yield "|---|---|---|"
            for name in groups:
                yield f"| {name} | {found[f'{name}/n']:.0f} | {found[name]:.1%} |"
    if column.open_set:
        rule = column.open_set
        refused = "no strangers were at hand" if rule.strangers_refused is None else f"{rule.strangers_refused:.1%}"
        yield ""
        yield (
            f"Strangers are `unknown` by {rule.method}, threshold {rule.threshold:.4g}: {rule.known_kept:.1%} of the "
            f"known people's validation pictures kept, strangers refused: {refused}."
        )


def _percent(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "nll" else f"{value:.1%}"
