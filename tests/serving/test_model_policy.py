"""What a configuration asks of the server: settings, limits, and what is asked in vain."""

from __future__ import annotations

import pytest

from serving.errors import BundleError
from serving.model_policy import policy
from serving.scheduler.limits import ANY_WAIT, QueuePolicy
from serving.settings import Settings
from tests.serving.bundles import config_of


def test_plain_configuration_is_done_whole() -> None:
    found = policy(config_of("name: 'x' max_batch_size: 8 dynamic_batching { }"), Settings(runners=3))
    assert found.ignored == ()
    assert found.settings == Settings(runners=3)
    assert found.limits.across
    assert found.limits.delay == 0
    assert found.limits.policy == ANY_WAIT
    assert found.cache_bytes == 0


def test_without_dynamic_batching_rows_of_different_requests_do_not_meet() -> None:
    assert not policy(config_of("max_batch_size: 8"), Settings()).limits.across


def test_batching_section_becomes_limits() -> None:
    limits = policy(
        config_of(
            """max_batch_size: 8 dynamic_batching {
              preferred_batch_size: [4, 8] max_queue_delay_microseconds: 2500
              priority_levels: 3 default_priority_level: 2
              default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1000 }
              priority_queue_policy { key: 1 value { allow_timeout_override: true max_queue_size: 7 } }
            }"""
        ),
        Settings(),
    ).limits
    assert limits.preferred == (4, 8)
    assert limits.delay == pytest.approx(0.0025)
    assert (limits.levels, limits.level) == (3, 2)
    assert limits.policy_of(3) == QueuePolicy(timeout=0.001, override=False, reject=False, capacity=None)
    assert limits.policy_of(1) == QueuePolicy(timeout=None, override=True, reject=True, capacity=7)


def test_queue_size_of_the_only_level_is_the_capacity() -> None:
    config = config_of("dynamic_batching { default_queue_policy { max_queue_size: 5 } }")
    assert policy(config, Settings(capacity=77)).settings.capacity == 5


def test_parameters_change_the_settings_of_the_model_and_unknown_ones_are_named() -> None:
    config = config_of(
        "parameters { key: 'max_waste' value { string_value: '2.5' } } "
        "parameters { key: 'host' value { string_value: '0.0.0.0' } }"
    )
    found = policy(config, Settings())
    assert found.settings == Settings(max_waste=2.5)
    assert found.ignored == ("parameters 'host'",), "where the server listens is not for a model to say"


def test_parameter_of_a_wrong_value_is_refused_by_name() -> None:
    with pytest.raises(BundleError, match=r"config\.pbtxt: parameters max_waste: wrong value, got '0'"):
        policy(config_of("parameters { key: 'max_waste' value { string_value: '0' } }"), Settings())


@pytest.mark.parametrize(("count", "cores", "runners"), [(1, 4, 4), (2, 4, 4), (3, 4, 3), (6, 4, 6)])
def test_instances_share_the_cores_and_have_one_each(
    count: int, cores: int, runners: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.settings.read_available_cores", lambda: cores)
    config = config_of(f"instance_group {{ count: {count} kind: KIND_CPU }}")
    assert policy(config, Settings()).settings.runners == runners
    assert policy(config, Settings(runners=9)).settings.runners == 9, "the server's own setting wins"


def test_response_cache_has_the_size_of_the_settings() -> None:
    assert policy(config_of("response_cache { enable: true }"), Settings(cache_bytes=1000)).cache_bytes == 1000


def test_what_is_not_honoured_is_named_by_its_path() -> None:
    config = config_of(
        "sequence_batching { } optimization { graph { level: 1 } } default_model_filename: 'x' "
        "input { name: 'text' data_type: TYPE_STRING dims: 1 reshape { shape: 1 } } "
        "instance_group { kind: KIND_GPU } model_transaction_policy { decoupled: true }"
    )
    assert set(policy(config, Settings()).ignored) == {
        "sequence_batching",
        "optimization",
        "default_model_filename",
        "input.reshape",
        "instance_group.kind KIND_GPU",
        "model_transaction_policy",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size: -1", "max_batch_size: is negative, got -1"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: 0 }", "preferred_batch_size.*got 0"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 16] }", "got 16; give 1 to max_batch_size 8"),
        ("dynamic_batching { priority_levels: 2 }", "default_priority_level.*got 0; give 1 to priority_levels 2"),
        ("dynamic_batching { priority_levels: 2 default_priority_level: 3 }", "default_priority_level.*got 3"),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 5 value { } } }",
            "priority_queue_policy.*got 5",
        ),
    ],
)
def test_what_triton_would_not_load_is_refused_with_the_remedy(text: str, said: str) -> None:
    with pytest.raises(BundleError, match=rf"config\.pbtxt: .*{said}"):
        policy(config_of(text), Settings())


def test_every_fault_of_a_configuration_is_told_at_once() -> None:
    with pytest.raises(BundleError, match=r"3 faults"):
        policy(config_of("max_batch_size: -1 dynamic_batching { preferred_batch_size: [1, 2] }"), Settings())


def test_cores_of_this_machine_do_not_bound_what_another_server_runs() -> None:
    config = config_of("instance_group { count: 1 kind: KIND_CPU }")
    assert policy(config, Settings(triton_graphs="triton:8001")).settings.runners == 0


def test_order_of_answers_is_not_promised() -> None:
    found = policy(config_of("dynamic_batching { preserve_ordering: true priority_levels: 0 }"), Settings())
    assert found.ignored == ("dynamic_batching.preserve_ordering",)


def test_cache_is_off_unless_the_configuration_enables_it() -> None:
    assert policy(config_of("response_cache { enable: false }"), Settings(cache_bytes=1000)).cache_bytes == 0
    own = "response_cache { enable: true } parameters { key: 'cache_bytes' value { string_value: '50' } }"
    assert policy(config_of(own), Settings(cache_bytes=1000)).cache_bytes == 50
