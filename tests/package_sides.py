"""What lies beside the graph of a package that no export wrote."""

from pathlib import Path

from mlstack.records.base import write
from mlstack.records.dataset_version import DatasetVersion
from mlstack.records.lineage import Lineage
from mlstack.records.package import Metrics, Parity
from mlstack.records.reference import NumericColumn, Reference
from mlstack.records.run import CodeVersion, Environment


def write_sides(side: Path, name: str, number: int, run: str) -> None:
    """Write what every package holds beside its graph, signature and golden examples."""
    lineage = Lineage(
        model=name,
        number=number,
        run=run,
        created="",
        dataset=DatasetVersion(name="digits", source="data/digits", md5="0.dir"),
        code=CodeVersion(),
        environment=Environment(python="3.11", platform="linux", cpu_count=2),
        config={},
        seed=1,
        checkpoint_sha256="",
    )
    write(side / "lineage.json", lineage)
    write(side / "metrics.json", Metrics(values={"test/acc": 0.9 + number / 100}))
    write(
        side / "parity.json",
        Parity(
            examples=3,
            batch_sizes=[1],
            max_abs_diff=0,
            output_scale=1,
            max_relative_diff=0,
            agreement=1,
        ),
    )
    write(
        side / "reference.json",
        Reference(
            rows=3,
            origin="test",
            numeric=[NumericColumn(name="brightness", edges=[0.5], counts=[1, 2])],
        ),
    )
    (side.parent / "README.md").write_text(f"# {name} {number}\n")
