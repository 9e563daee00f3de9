"""``recascade serve psad RUN``: the service of a run's student, or of an exported one."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recascade.data.vocabulary import Vocabulary
from recascade.serving.http import application
from recascade.serving.metrics import Metrics
from recascade.serving.one_thread import compute_on_one_thread
from recascade.settings import compose_sections
from recascade_psad.engines import open_engine
from recascade_psad.export import student_of
from recascade_psad.identifiers import find_identifiers
from recascade_psad.run_folder import open_run
from recascade_psad.serve_config import ServeConfig
from recascade_psad.service import PSADService

if TYPE_CHECKING:
    from starlette.applications import Starlette


def serve(directory: Path, options: Mapping[str, Any]) -> Starlette:
    """The application of a student.

    Args:
        directory: of ``recascade psad export``, or of one seed of ``recascade run psad``.
        options: dotted keys, as ``{"serve.engine": "torch"}``; see ``ServeConfig``.

    Raises:
        DataError: the folder holds no student.
        ConfigurationError: an unknown option, or a value that cannot work.
    """
    config: ServeConfig = compose_sections({"serve": ServeConfig}, options)["serve"]
    compute_on_one_thread()
    run = open_run(directory)
    student = student_of(run.model)
    items, users = (_numbers(each) for each in find_identifiers(directory, run.inputs))
    service = PSADService(open_engine(config.engine, directory, student), run.inputs, items, users, config)
    # The collector would walk through all identifiers again and again, at some request's expense.
    gc.collect()
    gc.freeze()
    metrics = Metrics()
    service.follow(metrics)
    return application(service.routes(), metrics, health=service.health, threads=config.threads, close=service.close)


def _numbers(vocabulary: Vocabulary) -> dict[str, int]:
    return {identifier: number for number, identifier in enumerate(vocabulary.ids.to_list())}
