"""The text of identity.toml and terminal.toml, as a terminal writes them itself; nothing is decided here."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from edge.config import ROOT, IdentitySettings
from edge.evidence.signer import TOKEN_LABEL, Token
from edge.provisioning import keys
from edge.provisioning.enrolment import Bundle

UPDATES_ROOT = "updates/root.json"
# What a technician may have set before the enrolment, and the settings after it have too.
_CARRIED = ("state_dir", "run_dir", "camera", "kiosk")
DESK_STICK = "stick"
_DESK_SPOOL = "spool"  # the box's own, /var/cache/vouch-updates, is no developer's to write
_DESK = f'state_dir = "state"\nrun_dir = "run"\nsticks = "{DESK_STICK}"\n'


def identity_text(terminal_id: str, hardware_model: str, token: Token | None, *, desk: bool) -> str:
    """identity.toml. `desk`: state, sockets, sticks and spool lie in folders beside it, as on a developer's machine."""
    return f"""\
# Written when the keys were made. Paths are relative to this file.
terminal_id = "{terminal_id}"
hardware_model = {_value(hardware_model)}
{_DESK if desk else ""}
{_keys_text(token)}"""


def settings_text(identity: IdentitySettings, source: Path, bundle: Bundle) -> str:
    """terminal.toml. `source`: identity.toml, whose settings for this machine are carried over as they were written."""
    raw = tomllib.loads(source.read_text(encoding="utf-8"))
    carried = {name: raw[name] for name in _CARRIED if name in raw}
    plain = "".join(f"{name} = {_value(value)}\n" for name, value in carried.items() if not isinstance(value, dict))
    tables = "".join(_table(name, value) for name, value in carried.items() if isinstance(value, dict))
    return f"""\
# Written at enrolment. Paths are relative to this file.
terminal_id = "{identity.terminal_id}"
site = {_value(bundle.site)}
hardware_model = {_value(identity.hardware_model)}
{plain}
{_keys_text(keys.token_of(identity.keys))}
[uplink]
host = {_value(bundle.broker_host)}
port = {bundle.broker_port}
ca = "uplink/ca.crt"
certificate = "uplink/tls.crt"
key = "uplink/tls.key"
{_updates_text(bundle, desk=raw.get("sticks") == DESK_STICK)}{tables}"""


def _keys_text(token: Token | None) -> str:
    if token is None:
        result = 'result_key = "terminal/result.key"\n'
    else:
        named = {
            "pkcs11_module": str(token.module.absolute()),
            "pkcs11_token": token.label,
            "pkcs11_key": TOKEN_LABEL,
            "pkcs11_pin_file": str(token.pin_file.absolute()),
        }
        result = "".join(f"{name} = {_value(value)}\n" for name, value in named.items())
    return (
        f'[keys]\n{result}portrait_key = "terminal/portrait.key"\ncarrier_keys = "carrier"\ncarrier_root = "{ROOT}"\n'
    )


def _updates_text(bundle: Bundle, *, desk: bool) -> str:
    if bundle.updates is None:
        return ""
    url = f"url = {_value(bundle.updates.url)}\n" if bundle.updates.url else ""
    spool = f'spool = "{_DESK_SPOOL}"\n' if desk else ""
    return f'\n[updates]\nroot = "{UPDATES_ROOT}"\n{url}{spool}'


def _table(name: str, values: dict[str, Any]) -> str:
    return f"\n[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: str | float) -> str:
    """Texts, numbers and truths of TOML are JSON's, but for pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False)
