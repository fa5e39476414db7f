"""What is stored of a version, and what its digest depends on."""

import pytest

from coordinator.dataflow.check import check
from coordinator.dataflow.pinned import PinnedDefinition, StepTypes, UnreadableDefinitionError
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.participant_pb2 import Action
from tests.coordinator.dataflow.shop import FILES, compile_protos, participants, reserve_and_charge


def _pinned(definition: SagaDefinition | None = None) -> PinnedDefinition:
    pinned = check(definition or reserve_and_charge(), participants()).pinned
    assert pinned is not None
    return pinned


def test_what_is_stored_is_read_back() -> None:
    """G11."""
    pinned = _pinned()
    again = PinnedDefinition.from_stored(pinned.content, pinned.descriptor_bytes, version=3)
    assert again.definition.version == 3
    assert again.definition.steps == pinned.definition.steps
    assert again.step_types["charge"] == StepTypes("payment.v1.ChargeRequest", "payment.v1.Receipt")
    assert again.step_types == pinned.step_types
    assert again.descriptors == pinned.descriptors
    assert again.digest == pinned.digest


def test_the_digest_does_not_depend_on_the_version() -> None:
    versioned = reserve_and_charge()
    versioned.version = 7
    pinned = _pinned(versioned)
    assert pinned.definition.version == 7
    assert pinned.digest == _pinned().digest


def test_the_digest_depends_on_content_types_and_descriptors() -> None:
    pinned = _pinned()
    changed = reserve_and_charge()
    changed.steps[0].timeout.seconds = 1
    retyped = dict(pinned.step_types) | {"charge": StepTypes("payment.v1.ChargeRequest", "payment.v1.Line")}
    fewer = compile_protos(FILES, "payment/v1/payment.proto")
    digests = {
        pinned.digest,
        _pinned(changed).digest,
        PinnedDefinition(pinned.definition, retyped, pinned.descriptors).digest,
        PinnedDefinition(pinned.definition, pinned.step_types, fewer).digest,
    }
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


def test_the_digest_does_not_depend_on_what_participants_say_besides() -> None:
    """The same content again is the version that exists, also after a participant has grown."""
    described = participants()
    payment = described["payment"]
    assert payment is not None
    payment.version = "2"
    payment.actions[0].description = "Now with a description."
    payment.actions.append(Action(name="Refund", input_type="payment.v1.Receipt", output_type="payment.v1.Receipt"))
    other = compile_protos({"other.proto": 'syntax = "proto3"; package other; message Other {}'})
    payment.descriptors.file.insert(0, other.file[0])
    pinned = check(reserve_and_charge(), described).pinned
    assert pinned is not None
    assert pinned.digest == _pinned().digest


@pytest.mark.parametrize("labels", [{"a": "input.order_id", "b": "'x'"}, {"b": "'x'", "a": "input.order_id"}])
def test_the_order_of_labels_makes_no_difference(labels: dict[str, str]) -> None:
    definition = reserve_and_charge()
    for key, text in labels.items():
        definition.labels[key] = text
    other = reserve_and_charge()
    other.labels.update({"b": "'x'", "a": "input.order_id"})
    assert _pinned(definition).content == _pinned(other).content


@pytest.mark.parametrize("spoil", [lambda c: b"", lambda c: c[:3], lambda c: c[:-9], lambda c: c[4:], lambda c: c[:50]])
def test_what_was_not_stored_is_not_read(spoil: object) -> None:
    pinned = _pinned()
    with pytest.raises(UnreadableDefinitionError):
        PinnedDefinition.from_stored(spoil(pinned.content), pinned.descriptor_bytes)  # type: ignore[operator]  # one of the above


def test_descriptors_that_do_not_decode_are_told() -> None:
    with pytest.raises(UnreadableDefinitionError, match="decode"):
        PinnedDefinition.from_stored(_pinned().content, b"\xff\xff")
