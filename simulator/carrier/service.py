"""The reference carrier at work: enrols terminals, issues challenges, verifies results, answers with receipts.

HTTP and MQTT bring the calls in; the rules lie in judgement.py, the records in store.py, the signed bytes in edge.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from edge.clock import Clock
from edge.errors import EvidenceError, LinkError, ProvisioningError, VouchError
from edge.evidence import cose, messages, requests
from edge.evidence.claims import Claims, Fresh, Mode
from edge.evidence.messages import Challenge, PolicyReference, Receipt, ReceiptStatus
from edge.evidence.requests import TICKET_ORDER, RequestKind
from edge.evidence.signer import Signer, key_id
from edge.evidence.trust import decode_trust
from edge.ipc import Down, Up
from edge.session.decision import Policy
from edge.words import word_of
from simulator.carrier import registry
from simulator.carrier.judgement import Alarm, Finding, Statement, is_trusted, judge
from simulator.carrier.pki import CarrierPki, load_public_key
from simulator.carrier.portrait import fit_portrait
from simulator.carrier.store import SELF_TEST, Order, Store, StoredResult, Terminal, json_object

Publish = Callable[[str, bytes], None]
_LOG = logging.getLogger(__name__)
_TOPIC = re.compile(r"fv1/up/([0-9a-f]{32})/([a-z]+)")
_CHALLENGE_TTL_S = 300  # the person stands at the counter; the terminal may be finishing another session
_TICKET_TTL_S = 7 * 86_400  # what a challenge may have at most
# A ticket that was lost on its way, or with a terminal's disk, keeps counting until its end.
_TICKETS_LIVING = 4  # times what the policy allows
_STATUS_LIMIT = 2048
_STATUS_BRACKETS = 100  # many times what a terminal sends, and a tenth of what json can follow down
_DER_SEQUENCE = b"\x30"
_DETAIL_LIMIT = 200


class Carrier:
    """All that the carrier decides. Any thread may call; `publish` hands bytes to the broker or raises LinkError."""

    def __init__(self, store: Store, pki: CarrierPki, signer: Signer, clock: Clock, publish: Publish) -> None:
        self._store = store
        self._pki = pki
        self._signer = signer
        self._clock = clock
        self._publish = publish

    def set_policy(self, policy: Policy) -> None:
        """Sign the policy and know its digest from now on; a terminal that has an older one gets it at its next word.

        Where a newer one is known, that stays the newest; it is signed anew if a former key signed it, for a terminal
        believes no key that is two rotations old.
        """
        self._keep_policy(messages.build_policy(policy, self._signer))
        newest = self._store.newest_policy()
        if newest is not None and cose.parse(newest).protected.get(cose.KID) != self._signer.key_id:
            self._keep_policy(cose.sign1(cose.parse(newest).payload, self._signer, messages.POLICY_AAD))

    def learn_policy(self, message: bytes) -> None:
        """Know a policy that our engineer signed and published; EvidenceError where it is not signed by our keys.

        One that is known already stays as it is: it was verified then, and its signature here may be newer.
        """
        if self._store.knows_policy(messages.decode_policy(cose.parse(message).payload).digest):
            return
        keys = decode_trust(cose.parse(self._pki.trust.read_bytes()).payload).keys
        policy = messages.parse_policy(message, {key_id(key): key for key in keys})
        self._keep_policy(cose.sign1(cose.parse(message).payload, self._signer, messages.POLICY_AAD))
        _LOG.info("policy %s version %d is known from now on", policy.id, policy.version)

    def add_pack(self, digest: bytes) -> None:
        """Results measured with this model pack (SHA-256 of its pack.toml) raise no alarm."""
        self._store.add_pack(digest)

    def enrol(self, message: bytes, *, broker: tuple[str, int], site: str | None = None) -> registry.Answer:
        """The bundle for a terminal's request, see registry.py. EvidenceError, ProvisioningError."""
        return registry.answer(self._pki, self._store, message, broker=broker, site=site, now=self._clock.utc())

    def issue_order(
        self, terminal_id: str, reference: str, portrait: bytes | None = None, *, self_test: bool = False
    ) -> Order:
        """A new order: a challenge of its own, signed, with the portrait sealed to this terminal, on its way.

        A self-test asks nobody: the terminal answers at once, to show that its way to us works.

        ProvisioningError: no such terminal. CaptureError: no picture. EvidenceError: a field out of range.
        LinkError: the broker does not take it; then there is no order.
        """
        terminal = self._store.terminal(terminal_id)
        if terminal is None:
            raise ProvisioningError(f"no terminal {terminal_id}", todo="enrol it first")
        if (reference == SELF_TEST) is not self_test:
            raise ProvisioningError(f"{SELF_TEST} is no person's order", todo="name the order otherwise")
        return self._issue(terminal, reference, portrait, self_test=self_test)

    def _issue(
        self,
        terminal: Terminal,
        reference: str,
        portrait: bytes | None = None,
        *,
        ticket: bool = False,
        self_test: bool = False,
    ) -> Order:
        if self._store.retired_at(terminal.id) is not None:
            raise ProvisioningError(f"terminal {terminal.id} is retired", todo="enrol what stands in its place")
        now = self._clock.utc()
        order = Order(
            id=secrets.token_hex(8),
            terminal=terminal.id,
            reference=reference,
            nonce=secrets.token_bytes(32),
            session=secrets.token_bytes(16),
            issued_at=now,
            expires_at=now + (_TICKET_TTL_S if ticket else _CHALLENGE_TTL_S),
            ticket=ticket,
        )
        challenge = messages.build_challenge(
            self._challenge(order, terminal, portrait, self_test=self_test), self._signer
        )
        if not ticket:
            self._send_policy(terminal.id)
        # The record comes first: an answer must never be faster than our knowledge of the question.
        self._store.add_order(order)
        try:
            self._publish(f"fv1/dn/{terminal.id}/{Down.CHALLENGE.value}", challenge)
        except LinkError:
            self._store.remove_order(order.id)
            raise
        return order

    def received(self, topic: str, payload: bytes) -> None:
        """A message from the broker. What is wrong with it becomes an alarm; nothing in it raises."""
        place = _TOPIC.fullmatch(topic)
        terminal = self._store.terminal(place[1]) if place else None
        if place is None or terminal is None:
            # The broker's rules let only known names publish: a name without a record is a mistake of ours.
            self._alarm(place[1] if place else "", Alarm.UNKNOWN_TERMINAL, f"{len(payload)} bytes on {topic}")
            return
        match place[2]:
            case Up.RESULT.value:
                self._result(terminal, payload)
            case Up.STATUS.value:
                self._status(terminal, payload)
            case Up.REQUEST.value:
                self._request(terminal, payload)
            case Up.AUDIT.value:
                self._audit(terminal, payload)

    def _request(self, terminal: Terminal, payload: bytes) -> None:
        """1. Signed by this terminal, in form. 2. Not answered before. 3. The order begins, or tickets go out.

        A shop's number is taken as it is: this carrier has no list of orders that were paid for. One that has would
        look there, and let the terminal run out of its time for a number that it does not know.
        """
        try:
            request = requests.open_request(payload, load_public_key(terminal.result_key.encode()))  # 1
        except EvidenceError as exc:
            self._alarm(terminal.id, Alarm.UNREADABLE, f"a request: {exc.message}")
            return
        if request.terminal_id.hex() != terminal.id:
            self._alarm(terminal.id, Alarm.WRONG_NAME, f"a request names {request.terminal_id.hex()}")
            return
        if not self._store.note_request(request.id):  # 2
            return
        try:  # 3
            if request.kind is RequestKind.ORDER and request.order is not None:
                self.issue_order(terminal.id, request.order)
            elif request.tickets is not None:
                self._issue_tickets(terminal, request.tickets)
        except VouchError as exc:
            _LOG.warning("%s: a request stays without an answer: %s", terminal.id, exc.message)

    def _issue_tickets(self, terminal: Terminal, asked: int) -> None:
        policy = self._policy()
        allowed = policy.offline_tickets if policy else 0
        room = _TICKETS_LIVING * allowed - self._store.living_tickets(terminal.id, self._clock.utc())
        for _ in range(min(asked, allowed, room)):
            self._issue(terminal, TICKET_ORDER, ticket=True)

    def _result(self, terminal: Terminal, envelope: bytes) -> None:
        """1. The same bytes again get the same answer. 2. Signature and schema. 3. The rules. 4. Record. 5. Receipt."""
        digest = hashlib.sha256(envelope).digest()
        now = self._clock.utc()
        stored = self._store.repeat_of(digest)  # 1
        if stored is not None:
            self._send_receipt(stored, ReceiptStatus.DUPLICATE if stored.trusted else ReceiptStatus.REFUSED)
            return
        try:
            claims = messages.open_result(envelope, load_public_key(terminal.result_key.encode()))  # 2
        except EvidenceError as exc:
            self._alarm(terminal.id, Alarm.UNREADABLE, exc.message, digest)
            return
        statement = Statement(
            terminal=claims.terminal_id.hex(),
            ctr=claims.counter,
            digest=digest,
            previous=claims.previous,
            nonce=claims.nonce,
            policy_digest=claims.policy_digest,
            pack_digest=claims.pack_digest,
            self_test=claims.mode is Mode.SELF_TEST,
            outcome=claims.outcome,
            fresh=claims.fresh,
            order_bound=claims.order_commitment is not None,
            clerk_named=claims.clerk is not None,
        )
        if statement.terminal != terminal.id:
            # Its key signed another's name: the other's history must not be touched by it.
            self._alarm(terminal.id, Alarm.WRONG_NAME, f"claims name {statement.terminal}", digest)
            return
        with self._store.transaction():
            findings = judge(statement, self._store.known(statement, now))  # 3
            self._store.add_result(statement, claims.cti, envelope, claims_by_name(claims), findings, now)  # 4
            self._store.note_seen(terminal.id, now)
        for finding in findings:
            _LOG.warning("%s: %s: %s", terminal.id, finding.alarm.value, finding.detail)
        stored = self._store.result(digest)
        if stored is not None:
            self._send_receipt(stored, ReceiptStatus.ACCEPTED if is_trusted(findings) else ReceiptStatus.REFUSED)  # 5

    def _send_receipt(self, stored: StoredResult, status: ReceiptStatus) -> None:
        receipt = Receipt(
            terminal_id=bytes.fromhex(stored.terminal),
            cti=stored.cti,
            counter=stored.ctr,
            digest=stored.digest,
            status=status,
            iat=stored.received_at,
        )
        try:
            message = messages.build_receipt(receipt, self._signer)
            self._publish(f"fv1/dn/{stored.terminal}/{Down.RECEIPT.value}", message)
        except LinkError as exc:
            _LOG.warning("%s: no receipt for counter %d now: %s", stored.terminal, stored.ctr, exc.message)
            return  # the terminal sends the same bytes again
        self._store.note_receipt(stored.digest)

    def _status(self, terminal: Terminal, payload: bytes) -> None:
        status = _readable(payload)
        self._store.note_seen(terminal.id, self._clock.utc(), json.dumps(status))
        trust = self._pki.trust.read_bytes()
        version = status.get("trust")
        if isinstance(version, int) and version < decode_trust(cose.parse(trust).payload).version:
            self._send(terminal.id, Down.COMMAND, trust)  # before what the keys in it have signed
        policy = self._policy()
        if policy is not None and policy.digest.hex() not in json.dumps(status):
            self._send_policy(terminal.id)
        if status.get("provisioned") is False:
            self._test(terminal.id)

    def _test(self, terminal_id: str) -> None:
        """A terminal that no result of has been accepted yet is asked for one; once while that question lives."""
        now = self._clock.utc()
        asked = (order for order in self._store.orders() if order.terminal == terminal_id)
        living = [order for order in asked if order.reference == SELF_TEST and order.expires_at >= now]
        if any(self._store.result_for(order.nonce) is None for order in living):
            return
        try:
            self.issue_order(terminal_id, SELF_TEST, self_test=True)
        except (LinkError, ProvisioningError) as exc:
            _LOG.warning("%s: no self-test now: %s", terminal_id, exc.message)

    def _audit(self, terminal: Terminal, payload: bytes) -> None:
        """A certificate request (DER), or the last word of a terminal (COSE): the first byte tells."""
        self._store.note_seen(terminal.id, self._clock.utc())
        try:
            if payload[:1] == _DER_SEQUENCE:
                answer = registry.renewed(self._pki, self._store, terminal.id, payload, now=self._clock.utc())
                self._send(terminal.id, Down.COMMAND, answer)
            else:
                registry.retired(self._store, terminal, payload, now=self._clock.utc())
        except (EvidenceError, ProvisioningError) as exc:
            self._alarm(terminal.id, Alarm.UNREADABLE, exc.message)

    def _keep_policy(self, message: bytes) -> None:
        policy = messages.decode_policy(cose.parse(message).payload)
        self._store.add_policy(policy.digest, policy.id, policy.version, message, self._clock.utc())

    def _policy(self) -> Policy | None:
        """The newest one. Read anew each time: another thread, or the desk's process, may have brought it."""
        message = self._store.newest_policy()
        return messages.decode_policy(cose.parse(message).payload) if message is not None else None

    def _send_policy(self, terminal_id: str) -> None:
        message = self._store.newest_policy()
        if message is not None:
            self._send(terminal_id, Down.POLICY, message)

    def _send(self, terminal_id: str, topic: Down, message: bytes) -> None:
        try:
            self._publish(f"fv1/dn/{terminal_id}/{topic.value}", message)
        except LinkError as exc:
            _LOG.warning("%s: no %s now: %s", terminal_id, topic.value, exc.message)

    def _challenge(self, order: Order, terminal: Terminal, portrait: bytes | None, *, self_test: bool) -> Challenge:
        policy, sealed = self._policy(), None
        if portrait is not None:
            key = load_public_key(terminal.portrait_key.encode())
            sealed = messages.seal_portrait(fit_portrait(portrait), key, context=order.nonce)
        return Challenge(
            terminal_id=bytes.fromhex(order.terminal),
            nonce=order.nonce,
            session_id=order.session,
            order=order.reference,
            iat=order.issued_at,
            exp=order.expires_at,
            ttl_s=order.expires_at - order.issued_at,
            fresh=Fresh.TICKET if order.ticket else Fresh.ONLINE,
            portrait=sealed,
            policy=PolicyReference(policy.id, policy.version) if policy else None,
            self_test=self_test,
        )

    def _alarm(self, terminal_id: str, alarm: Alarm, detail: str, digest: bytes | None = None) -> None:
        _LOG.warning("%s: %s: %s", terminal_id, alarm.value, detail)
        self._store.add_alarm(terminal_id, Finding(alarm, detail[:_DETAIL_LIMIT]), self._clock.utc(), digest)


def claims_by_name(claims: Claims) -> dict[str, Any]:
    """The claims as JSON types: bytes as hexadecimal, enumerations by name."""
    return {field.name: _json(getattr(claims, field.name)) for field in dataclasses.fields(claims)}


def _json(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case Enum():
            return word_of(value)
        case tuple():
            return [_json(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value


def _readable(payload: bytes) -> Mapping[str, Any]:
    """A status message is JSON; anything else is shown as what it is.

    One terminal's status must not take the page from all.
    """
    unreadable = {"unreadable": f"{len(payload)} bytes"}
    if len(payload) > _STATUS_LIMIT or payload.count(b"[") + payload.count(b"{") > _STATUS_BRACKETS:
        return unreadable
    status = json_object(payload)
    return unreadable if status is None else status
