"""A payment service whose `cents` has the type that a file names when it starts. Its charges stay pending."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from participant_sdk import COMPENSATABLE, Action, Participant, Pending, SqliteBarrier
from sample_services.service import Database, Listen, serve


def participant(type_name: str, database: Path) -> Participant:
    file = FileDescriptorProto(name="payment.proto", package="payment", syntax="proto3")
    for message, field, field_type in (("ChargeRequest", "cents", type_name), ("Receipt", "id", "TYPE_STRING")):
        file.message_type.add(name=message).field.add(
            name=field,
            number=1,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
            type=FieldDescriptorProto.Type.Value(field_type),
        )
    pool = DescriptorPool()
    pool.Add(file)
    request, receipt = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"payment.{message.name}"))
        for message in file.message_type
    )

    class Charge(Action[request, receipt]):  # type: ignore[valid-type]  # types that are known only when it runs
        kinds = (COMPENSATABLE,)

        async def execute(self, request: Any, step: Any) -> Pending:
            return Pending(poll_after=timedelta(hours=1))

        async def compensate(self, request: Any, output: Any, step: Any) -> None:
            return None

    return Participant("payment", [Charge()], SqliteBarrier(database, ""))


def main(
    type_file: Annotated[Path, typer.Option(help="The type of `cents`: TYPE_INT64.")],
    listen: Listen = "127.0.0.1:0",
    database: Database = Path("payment.db"),
) -> None:
    serve(participant(type_file.read_text().strip(), database), listen)


if __name__ == "__main__":
    typer.run(main)
