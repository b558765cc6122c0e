"""Targets of compilation: which processors can run and share the code."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from wagi.errors import WagiError
from wagi.guest.artefacts import artefact_key
from wagi.guest.capi.engine import Engine, Memory, Pool, wat_to_wasm
from wagi.guest.engine import DEFAULT_MEMORY
from wagi.guest.targets import Processor, Target, parse_features, this_processor

V2_FEATURES = frozenset(["fpu", "cx16", "pni", "ssse3", "sse4_1", "sse4_2", "popcnt"])
V3_FEATURES = V2_FEATURES | frozenset(["avx", "avx2", "bmi1", "bmi2", "fma", "abm"])
OLD = Processor("x86_64", "Linux", frozenset(("fpu", "pni")))
LEVEL_2 = Processor("x86_64", "Linux", V2_FEATURES)
LEVEL_3 = Processor("x86_64", "Linux", V3_FEATURES)
ARM = Processor("aarch64", "Linux", frozenset(("fp", "asimd", "atomics")))
MAC = Processor("arm64", "Darwin", None, "arm")
UNKNOWN = Processor("x86_64", "Linux", None)


@pytest.mark.parametrize(
    ("processor", "targets"),
    [
        (OLD, (Target.NATIVE,)),
        (LEVEL_2, (Target.NATIVE, Target.X86_64_V2)),
        (LEVEL_3, (Target.NATIVE, Target.X86_64_V3, Target.X86_64_V2)),
        (ARM, (Target.NATIVE,)),
        (MAC, (Target.NATIVE,)),
        (UNKNOWN, (Target.NATIVE,)),
        (Processor("x86_64", "Darwin", V3_FEATURES), (Target.NATIVE,)),
    ],
)
def test_the_targets_of_a_processor(processor: Processor, targets: tuple[Target, ...]) -> None:
    """The fastest target is first."""
    assert processor.targets == targets
    for target in targets:
        processor.check(target)


@pytest.mark.parametrize("lacking", sorted(V3_FEATURES - V2_FEATURES))
def test_one_missing_feature_excludes_a_target(lacking: str) -> None:
    processor = Processor("x86_64", "Linux", V3_FEATURES - {lacking})
    assert processor.targets == (Target.NATIVE, Target.X86_64_V2)
    with pytest.raises(WagiError, match=rf"lacks {lacking}; expected native or x86-64-v2$"):
        processor.check(Target.X86_64_V3)


@pytest.mark.parametrize(
    ("processor", "why"),
    [
        (ARM, "it requires Linux on x86_64, and this is Linux on aarch64; expected native"),
        (MAC, "it requires Linux on x86_64, and this is Darwin on arm64; expected native"),
        (UNKNOWN, "the features of this processor are unknown: /proc/cpuinfo does not list them"),
        (OLD, "this processor lacks ssse3, cx16, sse4_1, sse4_2, popcnt; expected native"),
    ],
)
def test_a_target_for_another_machine(processor: Processor, why: str) -> None:
    with pytest.raises(WagiError) as caught:
        processor.check(Target.X86_64_V2)
    assert str(caught.value).startswith(f"x86-64-v2 cannot be compiled here: {why}")


def key(processor: Processor, target: Target = Target.NATIVE) -> str:
    return artefact_key(b"digest", "engine", target, processor)


def test_irrelevant_features_do_not_change_the_key() -> None:
    """Microcode, kernels and hypervisors add and remove such flags."""
    assert key(LEVEL_3) == key(Processor("x86_64", "Linux", V3_FEATURES | {"smap", "hypervisor"}))
    assert key(ARM) == key(Processor("aarch64", "Linux", frozenset(("atomics", "sb", "dcpop"))))


def test_different_code_has_different_keys() -> None:
    """Processors that share a folder do not overwrite each other's code."""
    with_avx512 = Processor("x86_64", "Linux", V3_FEATURES | {"avx512f"})
    other_arm = Processor("aarch64", "Linux", frozenset(("fp", "asimd")))
    processors = [OLD, LEVEL_2, LEVEL_3, with_avx512, ARM, other_arm, MAC, UNKNOWN]
    keys = [key(processor) for processor in processors]
    keys += [key(LEVEL_3, Target.X86_64_V2), key(LEVEL_3, Target.X86_64_V3)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("target", [Target.X86_64_V2, Target.X86_64_V3])
def test_processors_of_a_level_share_its_code(target: Target) -> None:
    assert key(LEVEL_3, target) == key(LEVEL_2, target)


def test_unknown_architectures_are_distinguished_by_all_features() -> None:
    one = Processor("riscv64", "Linux", frozenset(("rv64imafdc",)))
    other = Processor("riscv64", "Linux", frozenset(("rv64imafdcv",)))
    assert key(one) != key(other)
    assert one.targets == (Target.NATIVE,)


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu pni\nbugs\t: x\n\nprocessor\t: 1\n", {"fpu", "pni"}),
        ("Features\t: fp asimd\n", {"fp", "asimd"}),
        ("isa\t\t: rv64imafdc\n", {"rv64imafdc"}),
        ("flags\t\t:\n", set()),
        ("vendor_id\t: GenuineIntel\n", None),
        ("", None),
    ],
)
def test_features_are_read_from_cpuinfo(cpuinfo: str, features: set[str] | None) -> None:
    assert parse_features(cpuinfo) == features


def test_this_processor() -> None:
    processor = this_processor()
    assert (processor.machine, processor.system) == (platform.machine(), platform.system())
    if sys.platform == "linux":
        assert processor.features == parse_features(Path("/proc/cpuinfo").read_text())


MEMORIES = sorted({Memory.POOL, Memory.ON_DEMAND, DEFAULT_MEMORY}, key=str)
ADD = wat_to_wasm(
    '(module (memory 1) (func (export "f") (param i64) (result i64) (i64.popcnt (local.get 0))))'
)


@pytest.mark.parametrize("target", this_processor().targets)
@pytest.mark.parametrize("memory", MEMORIES)
def test_code_for_every_target_loads_in_a_native_engine(
    tmp_path: Path, memory: Memory, target: Target
) -> None:
    """wasmtime compares the configurations of the compiling and the loading engine."""
    pool = Pool(2, 1024**2, 1000)
    code = bytes(Engine(memory, pool, target=target).compile(ADD).serialize())
    (tmp_path / "code").write_bytes(code)
    module = Engine(memory, pool).read(tmp_path / "code")
    assert [export.name for export in module.exports] == ["f"]
    # The code was compiled for the target, not for this processor. They differ unless the
    # processor has exactly the features of the target, such as x86-64-v3 without AVX-512.
    native = bytes(Engine(memory, pool).compile(ADD).serialize())
    features = this_processor().features or frozenset()
    has_more = any(name.startswith(("avx512", "avx_vnni", "apx")) for name in features)
    is_native = target is Target.NATIVE or (target is Target.X86_64_V3 and not has_more)
    assert (code == native) == is_native
