from __future__ import annotations

import subprocess
import sys

import pytest

from recascade.bench import registry
from recascade.bench.registry import (
    KNOWN_METHODS,
    broken_methods,
    find_method,
    installed_methods,
    missing_methods,
)
from recascade.contracts.method import Method
from recascade.errors import ConfigurationError, MissingDependencyError

SECOND = """
from dataclasses import dataclass
from recascade.contracts.method import Method

@dataclass
class Config:
    pass

METHOD = Method(name="sasrec", stage="retrieval", summary="", config=Config, fit="second:fit")
"""


def test_the_shared_methods_are_found_by_their_entry_points() -> None:
    methods = installed_methods()
    assert {"popularity", "co-visit", "item-knn", "gru4rec", "sasrec", "hstu", "dssm"} <= methods.keys()
    assert all(isinstance(method, Method) and name == method.name for name, method in methods.items())


def test_every_method_names_baselines_that_exist() -> None:
    methods = installed_methods()
    for method in methods.values():
        assert set(method.baselines) <= methods.keys()
        assert method.name not in method.baselines


def test_every_variant_and_axis_of_every_method_is_a_valid_configuration() -> None:
    from recascade.bench.config import compose

    for method in installed_methods().values():
        for variant in method.variants:
            compose(method, data="log", variant=variant)
        for axis, values in method.axes.items():
            for value in values:
                compose(method, data="log", overrides={f"model.{axis}": value})


def test_a_third_partys_method_is_found(acme: None) -> None:
    assert find_method("acme").summary == "a third party's method"


def test_two_packages_with_one_name_are_refused(install) -> None:
    install("second", SECOND, "sasrec = second:METHOD")
    with pytest.raises(ConfigurationError, match=r"'sasrec'.*second:METHOD|second:METHOD.*'sasrec'"):
        installed_methods()


def test_a_package_that_fails_to_import_hides_no_other(install) -> None:
    install("broken_one", "raise ImportError('no such CUDA')", "broken = broken_one:METHOD")
    assert "sasrec" in installed_methods()
    assert [method.name for method in broken_methods()] == ["broken"]
    with pytest.raises(ConfigurationError, match="no such CUDA"):
        find_method("broken")


def test_an_entry_point_that_is_no_method_is_reported(install) -> None:
    install("not_a_method", "METHOD = 3", "odd = not_a_method:METHOD")
    assert "is a int" in broken_methods()[0].problem


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'sasrec'"):
        find_method("sasrek")


@pytest.mark.parametrize("name", KNOWN_METHODS)
def test_a_method_that_is_not_installed_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [point for point in registry.entry_points(group=registry.GROUP) if point.name != name]
    monkeypatch.setattr(registry, "entry_points", lambda group: others)
    registry._discover.cache_clear()
    assert name in missing_methods()
    with pytest.raises(MissingDependencyError, match=rf'pip install "recascade\[{name}\]"'):
        find_method(name)
    registry._discover.cache_clear()


def test_listing_methods_imports_nothing_heavy() -> None:
    program = (
        "import sys; from recascade.bench.registry import installed_methods; installed_methods();"
        "print(*{'torch', 'lightning', 'polars', 'pyarrow', 'numpy', 'scipy'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
