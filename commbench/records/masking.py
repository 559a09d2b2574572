"""What may be written down of a command, an address or a variable? All but what opens something: that becomes ***.

    https://user:token@host/x     ->  https://***@host/x
    --api-key=abc, --token abc    ->  --api-key=***, --token ***
    WANDB_API_KEY=abc             ->  WANDB_API_KEY=***
    Authorization: Bearer abc     ->  Authorization: ***
    ghp_..., hf_..., AKIA...      ->  ***       by the form that their issuers give them

Names decide, so a password under a name of its own (`-p abc`) is not seen; docs/security.md says so.
"""

import re
from collections.abc import Iterable, Mapping

MASK = "***"

# In a name, by words: the strong anywhere, the weak at its end. `tokens` and `keys` count things, as in --max-tokens.
_STRONG = re.compile("password|passwd|passphrase|secrets?|token|credentials?|apikey|bearer|authorization|cookie|jwt")
_WEAK = re.compile("key|auth|pass|pwd|pat|sig|signature|keyid")
_OF_TEXT = re.compile("pad|eos|bos|unk|cls|sep|mask|image|special|per|max|min|num|dropout")  # --eos-token is one of a text's
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# What is repeated is bounded, and a name begins where a word does: a long text takes no longer than it is.
_USER = re.compile(
    r"(?<=://)(?:(?:[^\s/?#'\"]{0,1024}@)+|"  # what stands before the host
    r"[^\s/@:'\"]{0,256}:(?!//|\d+(?:[/?#'\"\s]|$))(?:(?!://)[^\s'\"]){0,1024}@)"  # a password with a slash in it
)
_NAME = r"(?<![\w.-])(?P<name>-{0,2}[A-Za-z_][\w.-]{0,127})"
_SCHEME = r"(?:(?i:bearer|basic|token)\s{1,8})?(?=\S)"
_PAIR = re.compile(rf"""{_NAME}(?:["']?\s{{0,8}}[=:]\s{{0,8}}|["']\s{{0,8}},\s{{0,8}}){_SCHEME}""")
_FLAG = re.compile(rf"(?<!\S)(?=-){_NAME}\s{{1,8}}(?=[^\s-])")
_VALUE = re.compile(r"""(?P<quote>["'])(?:(?!(?P=quote)).)*|[^\s"'&;,]+""", re.DOTALL)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_ISSUED = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|AIza[\w-]{30,})"
)


def masked(text: str) -> str:
    """Return a text with *** for every credential that it shows."""
    text = _USER.sub(f"{MASK}@", text)
    text = _hidden(_FLAG, _hidden(_PAIR, text))
    text = _BEARER.sub(rf"\1 {MASK}", text)
    return _ISSUED.sub(MASK, text)


def masked_command(words: Iterable[str]) -> tuple[str, ...]:
    """Return a command's words with *** for every credential, also where it is the word after its flag."""
    shown: list[str] = []
    hide = False
    for word in words:
        shown.append(MASK if hide else masked(word))
        hide = not hide and word.startswith("-") and "=" not in word and is_secret(word)
    return tuple(shown)


def masked_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables with *** for every credential that they hold or are."""
    return {name: MASK if value and is_secret(name) else masked(value) for name, value in variables.items()}


def is_secret(name: str) -> bool:
    """Say whether a flag, key or variable of this name holds what opens something."""
    words = [word.lower() for word in _WORD.findall(name)]
    if words[-1:] in (["id"], ["value"], ["string"]):
        words.pop()
    if any(map(_STRONG.fullmatch, words)):
        return not ("token" in words and any(map(_OF_TEXT.fullmatch, words)))
    return bool(words) and _WEAK.fullmatch(words[-1]) is not None


def _hidden(named: re.Pattern[str], text: str) -> str:
    """Hide the values of names that are secret. A value of any other name is looked through as well: it may hold pairs."""
    shown, copied, position = [], 0, 0
    while (match := named.search(text, position)) is not None:
        position = max(match.end(), match.start() + 1)
        value = _VALUE.match(text, match.end()) if is_secret(match["name"]) else None
        if value is not None:
            shown += [text[copied : match.end()], value["quote"] or "", MASK]
            copied = position = value.end()
    return "".join([*shown, text[copied:]])
