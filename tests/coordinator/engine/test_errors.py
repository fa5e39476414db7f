from coordinator.core.definition import Problem
from coordinator.engine import errors


def test_messages_say_what_is_wrong() -> None:
    problems = [Problem("input", "is missing"), Problem("labels", "are too many")]
    cases = {
        errors.InvalidRequest(problems): "input: is missing; labels: are too many",
        errors.DefinitionNotFound("order", 0): "there is no definition `order`",
        errors.DefinitionNotFound("order", 3): "there is no version 3 of the definition `order`",
        errors.DefinitionDeprecated("order", 3): "version 3 of the definition `order` is deprecated",
        errors.StartedDifferently("s"): "the saga `s` exists and was started with a different request",
        errors.SagaRetired("s", "COMPLETED"): "the saga `s` ended COMPLETED and has been retired",
        errors.SequenceMismatch("s", 3, 5): "stands at sequence 5, not at 3",
        errors.OverLimit("too many", 1): "too many",
        errors.Overloaded("starts wait"): "starts wait: no more sagas are taken",
        errors.ShuttingDown(): "the coordinator is shutting down",
    }
    for error, text in cases.items():
        assert text in str(error)
        assert isinstance(error, errors.EngineError)


def test_the_hierarchy_drawn_in_the_docstring_is_complete() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EngineError)]
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")
