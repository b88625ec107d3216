"""What schemathesis cannot read in the server's description."""

import itertools
from collections.abc import MutableMapping
from urllib.parse import unquote

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase

# The caller's own id: who takes away their own password or themselves finds out nothing any more.
CALLER = "1"
NOBODY = 2**62

# Limits that are of bytes, which JSON Schema cannot say.
BYTES = {"login": 255, "password": 1024}

counter = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    spare_the_caller(case)
    if case.meta is None:
        return
    if case.meta.generation.mode.is_negative:
        find_out_at_once(case)
    else:
        name_what_there_is(case)


def spare_the_caller(case):
    if case.method not in ("PUT", "DELETE") or not case.path.startswith("/v2.5/users"):
        return
    paths = case.path_parameters
    if isinstance(paths, MutableMapping) and unquote(str(paths.get("id"))) == CALLER:
        paths["id"] = str(NOBODY)
    for element in case.body if isinstance(case.body, list) else []:
        if isinstance(element, dict) and str(element.get("id")) == CALLER:
            element["id"] = NOBODY


def find_out_at_once(case):
    """What is wrong with a call in the background is found when it runs: such calls are sent in the foreground.

    But for the key, which has a meaning in the background only.
    """
    negated = {mutation.parameter for mutation in case.meta.phase.data.mutations}
    negated.add(case.meta.phase.data.parameter)
    if "bgrs" not in case.operation.query or "bgrs" in negated or not isinstance(case.query, MutableMapping):
        return
    case.query["bgrs"] = "yes" if "Idempotency-Key" in negated else "no"
    # The elements of a batch fail one by one: whatever is wrong beside the body is said of each of them.
    if isinstance(case.body, list) and not case.meta.is_negative_at(ParameterLocation.BODY):
        case.body = {}


def name_what_there_is(case):
    """A key is for one call, a callback goes to somebody, a call has the time that it takes, an owner is a user."""
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}-{next(counter)}"
    if "bgrs_callback" in case.query:
        case.query["bgrs_callback"] = "https://hooks.example/bgrs"
    if "bgrs_timeout" in case.query:
        case.query["bgrs_timeout"] = f"{case.query['bgrs_timeout'][:-1]}m"
    # What is removed in the background is removed a moment after the answer.
    if case.method == "DELETE" and "bgrs" in case.operation.query and case.meta.phase.name is TestPhase.STATEFUL:
        case.query["bgrs"] = "no"
    if not isinstance(case.body, dict):
        return
    if "user_id" in case.body:
        case.body["user_id"] = int(CALLER)
    for name, most in BYTES.items():
        if isinstance(case.body.get(name), str):
            case.body[name] = case.body[name].encode()[:most].decode(errors="ignore").strip()
