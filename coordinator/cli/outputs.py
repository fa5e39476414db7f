"""What people say that a step yielded: JSON, and which type it is meant to be of.

JSON that does not say so is of the type that the step yielded before, or else of the one that the step's participant
describes today. The latter is an assumption, and said to be one: the saga may run on an older description (G11). The
coordinator has the last word on it.
"""

from __future__ import annotations

import typer
from google.protobuf.any_pb2 import Any

from coordinator.cli.connection import Connection
from coordinator.cli.errors import CommandError
from coordinator.cli.output import visible
from coordinator.cli.payloads import names_type, output_from_json, types_of_saga
from coordinator.dataflow.types import TYPE_URL_PREFIX, Types
from saga.v1 import coordinator_pb2 as pb


def output_of_step(server: Connection, saga_id: str, name: str, text: str) -> Any:
    """The output of a saga's step from JSON. Says on the standard error what type was assumed.

    Raises:
        CommandError: there is no such saga or step, the text is not JSON or does not fit the type, or nothing says what
            its type is.
    """
    saga = server.get(saga_id, pb.PAYLOAD_VIEW_FULL)
    steps = {step.name: step for step in saga.steps}
    if name not in steps:
        raise CommandError(f"the saga has no step `{name}`", details=[f"its steps: {', '.join(steps)}"])
    types = types_of_saga(server, saga.definition, saga.version)
    if names_type(text):
        return output_from_json(text, types, "")
    known = steps[name].output.TypeName()  # empty where it has none
    return output_from_json(text, types, known or _assumed(server, steps[name], types))


def _assumed(server: Connection, step: pb.Step, types: Types) -> str:
    """The output type of the step's action, as its participant describes it today."""
    yielded = _described(server, step, types)
    if not types.knows(yielded):
        raise _unknown(
            f"{step.participant}.{step.action} yields a `{yielded}` today, which the saga does not know", types
        )
    typer.echo(visible(f"taken for a `{yielded}`, which {step.participant}.{step.action} yields"), err=True)
    return yielded


def _described(server: Connection, step: pb.Step, types: Types) -> str:
    for participant in server.call(server.directory.ListParticipants, pb.ListParticipantsRequest()).participants:
        if participant.name == step.participant:
            for action in participant.description.actions:
                if action.name == step.action:
                    return action.output_type
            raise _unknown(f"{step.participant} describes no action {step.action}", types)
    raise _unknown(f"there is no participant {step.participant} in the coordinator's configuration", types)


def _unknown(why: str, types: Types) -> CommandError:
    known = ", ".join(sorted(name for name in types.names() if types.knows(name)))
    return CommandError(
        f'the output\'s type is not known: name it, as in {{"@type": "{TYPE_URL_PREFIX}…", …}}',
        details=[why, *([f"types of the saga's definition: {known}"] if known else ())],
    )
