"""What stands on the wire, for both programs: frames of events, ranges of dispositions, statuses, instances."""
import collections, itertools, random, time
import grpc
from jaiminho.v1 import stage_pb2 as pb

# A frame: of about so many bytes, of at most so many events, and what it has beside their payloads.
FRAME_BYTES, FRAME_EVENTS_MAX, FRAME_OVERHEAD_BYTES, EVENT_COLUMNS_BYTES = 128 << 10, 4_096, 256, 80
# The trailer that says what a status means, and the codes of the status table.
FAILURE = "jaiminho-error-bin"
CODES = {"VIOLATION": "INVALID_ARGUMENT", "VERSION": "UNIMPLEMENTED", "UNKNOWN_OUTPUT": "NOT_FOUND",
         "WRONG_PIPELINE": "FAILED_PRECONDITION", "UNKNOWN_GROUP": "FAILED_PRECONDITION", "FENCED": "ALREADY_EXISTS",
         "REPLACED": "ABORTED", "LIMIT": "RESOURCE_EXHAUSTED", "SILENT": "DEADLINE_EXCEEDED"}
Delivery = collections.namedtuple("Delivery", "number payload key")


class Failure(Exception):
    """A row of the status table."""

    def __init__(self, kind, text="", **more):
        super().__init__(f"{kind} {text}")
        self.code = grpc.StatusCode[CODES[kind]]
        told = pb.LinkFailure(kind=pb.LinkFailure.Kind.Value(f"KIND_{kind}"), text=text, **more)
        self.trailers = ((FAILURE, told.SerializeToString()),)


def failure(error):
    """What a status says. One without the trailer is a proxy's or the transport's, and never means to stop."""
    told = (error.trailing_metadata() or {}).get(FAILURE)
    failure = pb.LinkFailure.FromString(told) if told else pb.LinkFailure(text=error.details())
    is_known = failure.kind in pb.LinkFailure.Kind.values()
    return failure if is_known else pb.LinkFailure(kind=pb.LinkFailure.KIND_UNAVAILABLE, text=failure.text)


def instance(name):
    return pb.Instance(name=name, incarnation=int(time.time() * 1000) << 20 | random.getrandbits(20))


def deliveries(frame):
    """A frame's events: number, payload, and the key's hash or None. Other columns are read in the same way."""
    start = 0
    for i, end in enumerate(frame.ends):
        keyless = not frame.key_hash or frame.keyless and frame.keyless[i // 8] >> i % 8 & 1
        key = None if keyless else frame.key_hash[i if len(frame.key_hash) > 1 else 0]
        yield Delivery(frame.first + i, frame.payloads[start:end], key)
        start = end


def events(first, entries, **of_frame):
    """A frame of entries with payload, key and attempt, numbered from `first`. One of none is the heartbeat."""
    return pb.Events(
        first=first if entries else 0, payloads=b"".join(entry.payload for entry in entries),
        ends=itertools.accumulate(len(entry.payload) for entry in entries),
        # A column: a value for each event, or one if it is the same for all, or none if that is the default.
        key_hash=(entry.key for entry in entries), attempt=(entry.attempt for entry in entries),
        arrived_ms=[int(time.time() * 1000)] if entries else [], **of_frame)


def ranges(dispositions):
    """Neighbours with the same outcome become one range."""
    joined = []
    for one in sorted(dispositions, key=lambda disposition: disposition.first):
        last = joined[-1] if joined else None
        if last and last.last + 1 == one.first and (last.state, last.rejection) == (one.state, one.rejection):
            last.last = one.last
        else:
            joined.append(one)
    return joined
