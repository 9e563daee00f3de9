from __future__ import annotations

from pathlib import Path

import pytest

from recascade.contracts.method import Method
from recascade.errors import ConfigurationError

METHOD = Method(name="mine", stage="retrieval", summary="", config=dict, fit="builtins:len")


def test_the_serve_function_gets_the_directory_and_the_options() -> None:
    method = Method(name="mine", stage="retrieval", summary="", config=dict, fit="", serve="builtins:isinstance")
    assert method.application(Path(), Path) is True  # type: ignore[arg-type]


def test_a_method_that_does_not_serve_says_so() -> None:
    with pytest.raises(ConfigurationError, match="Method 'mine' has no service"):
        METHOD.application(Path(), {})


@pytest.mark.parametrize("reference", ["no_such_module:serve", "builtins:no_such_function", "builtins"])
def test_a_function_that_is_not_there_is_named_with_its_role(reference: str) -> None:
    method = Method(name="mine", stage="retrieval", summary="", config=dict, fit=reference, serve=reference)
    with pytest.raises(ConfigurationError, match=f"names '{reference}' for 'serve'.*Reinstall"):
        method.application(Path(), {})
    with pytest.raises(ConfigurationError, match=f"names '{reference}' for 'fit'"):
        method.run(object())  # type: ignore[arg-type]
