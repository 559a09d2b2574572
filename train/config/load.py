"""How a YAML file and `key=value` words become a checked dataclass: defaults < YAML < words.

The file is untrusted: YAML is loaded safely, aliases and interpolations are refused (an alias bomb grows without bound,
an interpolation could copy an environment variable into the run folder).
"""

import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from commprof.commbench.errors import BadInput
from commprof.commbench.records.masking import MASK, is_secret, masked
from commprof.commbench.records.reading import read_bounded

_MAX_CONFIG_BYTES = 2**20
_MAX_DEPTH = 50
_MAX_TOKENS = 50_000
_OPENING = (
    *(yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken),
    *(yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken),
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)

# A ValueError is a text that is not UTF-8 or a number of more digits than Python reads.
_NOT_YAML = (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError)

T = TypeVar("T")


def load_config(schema: type[T], path: Path | None, overrides: Sequence[str] = ()) -> T:
    """Merge YAML, if any, and overrides into a dataclass; raise BadInput for unknown keys and values of the wrong type."""
    file_layer = OmegaConf.create({}) if path is None else read_yaml(path)
    override_layer = _parse_overrides(overrides)
    merged = OmegaConf.structured(schema)
    OmegaConf.set_readonly(merged, False)
    for origin, layer in ((str(path), file_layer), ("the command line", override_layer)):
        _refuse_unknown_keys(schema, layer, origin)
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None) or "a section"
            reason = str(error).splitlines()[0]
            raise BadInput(f"{origin}: {key}: {reason}; give a value of the documented type") from None
    result = OmegaConf.to_object(merged)
    assert isinstance(result, schema)
    return result


def dump_config(config: Any) -> str:  # noqa: ANN401  any configuration dataclass
    """Write the resolved configuration as YAML, to be saved with the run: credentials in it become ***."""
    return OmegaConf.to_yaml(OmegaConf.create(to_container(config)))


def to_container(config: Any) -> Any:  # noqa: ANN401  any configuration dataclass; dicts, lists and plain values
    """Return a configuration as it is written down."""
    return _shown(OmegaConf.to_container(OmegaConf.structured(config), resolve=False))


def _shown(value: Any) -> Any:  # noqa: ANN401  as above
    if isinstance(value, dict):
        return {key: MASK if isinstance(inner, str) and is_secret(str(key)) else _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return masked(value) if isinstance(value, str) else value


def read_yaml(path: Path) -> DictConfig:
    """Read a mapping from a file that anybody may have written; raise BadInput for one that does more than hold values."""
    raw = read_bounded(path, _MAX_CONFIG_BYTES, "a configuration")
    try:
        text = raw.decode("utf-8")
        _check_tokens(text, str(path))
        layer = OmegaConf.create(text)
    except _NOT_YAML as error:
        raise BadInput(f"{path} is not valid YAML: {_reason(error)}") from None
    except AssertionError:  # the library's own, of a document that is a number
        layer = None
    if not isinstance(layer, DictConfig):
        raise BadInput(f"{path} must be a mapping of sections, such as 'training:' with keys below it")
    return _without_interpolation(layer, str(path))


def _check_tokens(text: str, origin: str) -> None:
    """Raise BadInput for an alias, and for what would keep the reader busy without end: its work grows with depth squared."""
    depth = 0
    for number, token in enumerate(yaml.scan(text, Loader=yaml.SafeLoader)):
        if isinstance(token, yaml.AliasToken):
            raise BadInput(f"{origin} uses YAML aliases, which are not supported; write the values out")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:
            raise BadInput(f"{origin} is nested without end; a configuration has sections, keys and values")
        if number > _MAX_TOKENS:
            raise BadInput(f"{origin} holds more than a configuration does, which is a few hundred keys and values")


def _reason(error: Exception) -> str:
    return "it is nested without end" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]


def _parse_overrides(overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        if "=" not in override or override.startswith("="):
            raise BadInput(f"override {override!r} is not key=value; write for example training.batch_size=64")
    try:
        for override in overrides:
            _check_tokens(override.partition("=")[2], "the command line")
        layer = OmegaConf.from_dotlist(list(overrides))
    except _NOT_YAML as error:
        raise BadInput(f"the command line: {_reason(error)}") from None
    return _without_interpolation(layer, "the command line")


def _without_interpolation(layer: DictConfig, origin: str) -> DictConfig:
    if "${" in str(OmegaConf.to_container(layer, resolve=False)):
        raise BadInput(f"{origin} uses ${{...}} interpolation, which is not supported; write the value out")
    return layer


def _refuse_unknown_keys(schema: type, layer: DictConfig, origin: str, prefix: str = "") -> None:
    known = {item.name for item in fields(schema)}
    types = get_type_hints(schema)
    for key in layer:
        name = str(key)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            mend = f"did you mean {prefix}{close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise BadInput(f"{origin}: unknown key {prefix}{name}; {mend}")
        section = types[name]
        if is_dataclass(section):
            value = layer[name]
            if not isinstance(value, DictConfig):
                raise BadInput(f"{origin}: {prefix}{name} is a section; write its keys below it, not {str(value)!r}")
            assert isinstance(section, type)
            _refuse_unknown_keys(section, value, origin, f"{prefix}{name}.")
