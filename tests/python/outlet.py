"""A producer's side without any input and output: a bounded log, and the link to the one member of its one group."""
import asyncio, collections, dataclasses, time
from jaiminho.v1 import stage_pb2 as pb
from wire import EVENT_COLUMNS_BYTES, FRAME_BYTES, FRAME_EVENTS_MAX, FRAME_OVERHEAD_BYTES, Failure, events


@dataclasses.dataclass
class Entry:
    offset: int
    payload: bytes
    key: int
    attempt: int = 1


class Link:
    def __init__(self, subscribe, events_max):
        self.subscribe, self.wake, self.leaves, self.failure = subscribe, asyncio.Event(), None, None
        self.window = pb.Window(events=min(subscribe.window.events, events_max), bytes=subscribe.window.bytes)
        # What was sent so far, and what of it is not settled, by its number.
        self.credit, self.number, self.bytes, self.sent = pb.Credit(), 0, 0, {}

    def may_send(self):
        return self.number < self.credit.events and self.bytes < self.credit.bytes and not self.leaves


class Outlet:
    """`make()` gives the next entry, or None for now; `settled(entry, rejection)` hears what became of one."""

    def __init__(self, pipeline, output, group, events_max, make, settled):
        self.pipeline, self.output, self.group, self.events_max = pipeline, output, group, events_max
        self.make, self.settled, self.link = make, settled, None
        # To be sent, again as a rule; with what the link has sent it is the log.
        self.waiting = collections.deque()

    def is_empty(self):
        return not self.waiting and not (self.link and self.link.sent)

    def open(self, message):
        wanted, old = message.subscribe if message else pb.Subscribe(), self.link
        if not wanted.version_min <= 1 <= wanted.version_max:
            peers = {"peer_version_min": wanted.version_min, "peer_version_max": wanted.version_max}
            raise Failure("VERSION", version_min=1, version_max=1, **peers)
        if wanted.pipeline != self.pipeline:
            raise Failure("WRONG_PIPELINE", self.pipeline, theirs=wanted.pipeline)
        if wanted.output != self.output:
            raise Failure("UNKNOWN_OUTPUT", wanted.output)
        if wanted.group != self.group or wanted.kind != pb.GROUP_KIND_REQUIRED:
            raise Failure("UNKNOWN_GROUP", wanted.group)
        if not (wanted.window.events and wanted.window.bytes and wanted.instance.name):
            raise Failure("VIOLATION", "a window of 0, or no name")
        if old and old.subscribe.instance.name != wanted.instance.name:
            # Several members would share the group by partitions: rule 9.
            raise Failure("LIMIT", "one member is here")
        if old:
            ours, theirs = ((of.instance.incarnation, of.link_counter) for of in (old.subscribe, wanted))
            failure = Failure("REPLACED" if ours[0] == theirs[0] else "FENCED", wanted.instance.name)
            if theirs <= ours:
                raise failure
            old.failure = failure
            self.close(old)
        self.link = Link(wanted, self.events_max)
        return self.link

    def close(self, link):
        """What the link leaves unsettled waits for the next one, oldest first."""
        if link:
            for entry in reversed(link.sent.values()):
                entry.attempt += 1
                self.waiting.appendleft(entry)
            link.sent.clear()
            link.wake.set()
            self.link = None if self.link is link else self.link

    def read(self, link, message):
        credit, until = message.credit, link.credit
        if credit.events > link.number + link.window.events or credit.bytes > link.bytes + link.window.bytes:
            raise Failure("VIOLATION", "credit beyond the window")
        until.events, until.bytes = max(credit.events, until.events), max(credit.bytes, until.bytes)
        for told in message.dispositions.dispositions:
            # Nothing was revoked: nothing can be released.
            is_outcome = told.state in (pb.Disposition.STATE_ACCEPTED, pb.Disposition.STATE_REJECTED)
            if not 1 <= told.first <= told.last <= link.number or not is_outcome:
                raise Failure("VIOLATION", f"disposition of {told.first} to {told.last}")
            for number in [number for number in link.sent if told.first <= number <= told.last]:
                self.settled(link.sent.pop(number), told.rejection if told.HasField("rejection") else None)
        if message.HasField("cancel"):
            link.leaves = time.monotonic() + message.cancel.drain * message.cancel.time_left_ms / 1000
        link.wake.set()

    def frame(self, link):
        """The events that credit and log allow to be sent now; none: the heartbeat."""
        entries, size, first = [], 0, link.number + 1
        size_max = min(FRAME_BYTES, link.subscribe.frame_bytes_max - FRAME_OVERHEAD_BYTES)
        while len(entries) < FRAME_EVENTS_MAX and link.may_send():
            if not self.waiting and len(link.sent) < self.events_max and (made := self.make()):
                self.waiting.append(made)
            if not self.waiting:
                break
            entry = self.waiting[0]
            if len(entry.payload) > link.subscribe.event_bytes_max:
                self.settled(self.waiting.popleft(), pb.Rejection(reason=pb.Rejection.REASON_TOO_LARGE))
                continue
            size += len(entry.payload) + EVENT_COLUMNS_BYTES
            if entries and size > size_max:
                break
            entries.append(self.waiting.popleft())
            link.number, link.bytes = link.number + 1, link.bytes + len(entry.payload)
            link.sent[link.number] = entry
        held = len(link.sent) + len(self.waiting)
        return events(first, entries, backlog=len(self.waiting), pressure=5 * held > 4 * self.events_max)
