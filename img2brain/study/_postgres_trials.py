"""The trials of a study in PostgreSQL, in Optuna's own tables: made, told and read by one statement each.

Optuna's storage asks the server for each parameter and attribute by itself: some thirty questions for a trial, all of
them under the lock that the workers of a study wait for. What is written here is what Optuna writes, and a test holds
the one against the other; tables of another version of Optuna are refused before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import psycopg

# A number is taken once, also by workers of whom one has lost the lock of the study with its connection.
INDEX = "CREATE UNIQUE INDEX IF NOT EXISTS img2brain_numbers ON trials (study_id, number)"

_MAKE = """
    WITH made AS (
        INSERT INTO trials (study_id, number, state, datetime_start)
        SELECT %(study)s, coalesce(max(number) + 1, 0), %(state)s::trialstate, timezone('utc', now())
        FROM trials WHERE study_id = %(study)s RETURNING trial_id
    ), asked AS (
        INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
        SELECT trial_id, name, value, distribution
        FROM made, unnest(%(names)s::text[], %(values)s::float8[], %(distributions)s::text[]) AS p (name, value, distribution)
    ), said AS (
        INSERT INTO trial_user_attributes (trial_id, key, value_json)
        SELECT trial_id, key, value FROM made, unnest(%(keys)s::text[], %(said)s::text[]) AS a (key, value)
    )
    SELECT trial_id FROM made
"""  # noqa: E501
_FIND = """
    SELECT max(trial_id) FROM trials WHERE study_id = %s AND state = 'RUNNING' AND (
        SELECT count(*) FROM trial_user_attributes AS a WHERE a.trial_id = trials.trial_id
        AND (key, value_json) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
    ) = %s
"""
_TELL = """
    WITH told AS (
        UPDATE trials SET state = %(state)s::trialstate, datetime_complete = timezone('utc', now())
        WHERE trial_id = %(trial)s AND state = 'RUNNING' RETURNING trial_id
    ), found AS (
        INSERT INTO trial_values (trial_id, objective, value, value_type)
        SELECT trial_id, 0, CASE WHEN abs(value) < 'Infinity' THEN value END, (CASE value
            WHEN 'Infinity' THEN 'INF_POS' WHEN '-Infinity' THEN 'INF_NEG' ELSE 'FINITE' END)::trialvaluetype
        FROM told, (SELECT %(value)s::float8 AS value) AS v WHERE value IS NOT NULL
    ), said AS (
        INSERT INTO trial_user_attributes (trial_id, key, value_json)
        SELECT trial_id, key, value FROM told, unnest(%(keys)s::text[], %(said)s::text[]) AS a (key, value)
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
    )
    SELECT state = %(state)s::trialstate OR EXISTS (SELECT 1 FROM told) FROM trials WHERE trial_id = %(trial)s
"""
_READ = """
    SELECT trial_id, number, state::text, datetime_start, datetime_complete,
    ARRAY (
        SELECT CASE value_type::text WHEN 'INF_POS' THEN 'Infinity' WHEN 'INF_NEG' THEN '-Infinity' ELSE value END
        FROM trial_values AS v WHERE v.trial_id = trials.trial_id ORDER BY objective
    ),
    ARRAY (
        SELECT ARRAY[param_name, param_value::text, distribution_json]
        FROM trial_params AS p WHERE p.trial_id = trials.trial_id ORDER BY param_id
    ),
    ARRAY (
        SELECT ARRAY[key, value_json] FROM trial_user_attributes AS a WHERE a.trial_id = trials.trial_id
    )
    FROM trials WHERE study_id = %(study)s AND number >= %(n_known)s
    OR trial_id = ANY(%(unfinished)s) AND state <> 'RUNNING' ORDER BY trial_id
"""


def make(connection: psycopg.Connection[Any], study: int, trial: FrozenTrial) -> int:
    """Add a trial to a study with its parameters and attributes, and return its id; its number is the next one."""
    keys, said = _texts(trial.user_attrs)
    names = list(trial.params)
    domains = [trial.distributions[name] for name in names]
    values = [float(domain.to_internal_repr(trial.params[name])) for name, domain in zip(names, domains, strict=True)]
    made: int = _only(connection.execute(_MAKE, {
        "study": study, "state": trial.state.name, "names": names, "values": values,
        "distributions": list(map(distribution_to_json, domains)), "keys": keys, "said": said,
    }))  # fmt: skip
    return made


def find(connection: psycopg.Connection[Any], study: int, trial: FrozenTrial) -> int | None:
    """Return the id of a running trial that was made with these attributes; None where there is none."""
    keys, said = _texts(trial.user_attrs)
    found: int | None = _only(connection.execute(_FIND, [study, keys, said, len(keys)]))
    return found


def tell(
    connection: psycopg.Connection[Any], trial: int, said: Mapping[str, Any], state: TrialState, value: float | None
) -> bool:
    """End a running trial with its value and attributes, and return whether it is told so, now or before."""
    keys, texts = _texts(said)
    values = {"trial": trial, "state": state.name, "value": value, "keys": keys, "said": texts}
    return bool(_only(connection.execute(_TELL, values)))


def read(
    connection: psycopg.Connection[Any], study: int, unfinished: Collection[int], n_known: int
) -> list[FrozenTrial]:
    """Return the trials from a number on, and of others, by id, those that are over; in the order of their ids."""
    rows = connection.execute(_READ, {"study": study, "n_known": n_known, "unfinished": list(unfinished)})
    return [_trial(*row) for row in rows]


def _trial(
    trial: int, number: int, state: str, start: datetime | None, complete: datetime | None,
    values: list[float], asked: list[list[str]], said: list[list[str]],
) -> FrozenTrial:  # fmt: skip
    distributions = {name: _distribution(text) for name, _, text in asked}
    return FrozenTrial(
        number=number, state=TrialState[state], value=None, values=values or None, trial_id=trial,
        datetime_start=_local(start), datetime_complete=_local(complete),
        params={name: distributions[name].to_external_repr(float(value)) for name, value, _ in asked},
        distributions=distributions, user_attrs={key: json.loads(value) for key, value in said},
        system_attrs={}, intermediate_values={},
    )  # fmt: skip


@cache
def _distribution(text: str) -> BaseDistribution:
    """Return what a text of Optuna's stands for; a study has few, and nobody changes them."""
    return json_to_distribution(text)


def _local(time: datetime | None) -> datetime | None:
    """Return a time as Optuna does: in local time, without saying so."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _texts(said: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    return list(said), [json.dumps(value) for value in said.values()]


def _only(answer: psycopg.Cursor[Any]) -> Any:
    (found,) = answer.fetchone() or (None,)
    return found
