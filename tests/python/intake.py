"""A consumer's side of one link, without any input and output."""
import asyncio, collections
from jaiminho.v1 import stage_pb2 as pb
from wire import deliveries, ranges


class Intake:
    """What came, what is to be told, what may be asked for."""

    def __init__(self):
        self.subscribed, self.heartbeat_s = None, 2
        self.received, self.waiting, self.settled = 0, collections.deque(), []
        # Events and bytes: what is processed, and at which count of it the next credit is due.
        self.processed, self.due, self.credit = (0, 0), (0, 0), pb.Credit()
        self.cancel, self.ended, self.is_dead = None, None, False
        # There is something to do; there is something to tell.
        self.arrived, self.wake = asyncio.Event(), asyncio.Event()

    def read(self, message):
        if message.HasField("subscribed"):
            self.subscribed, self.heartbeat_s = message.subscribed, message.subscribed.heartbeat_ms / 1000
            self.wake.set()
        for delivery in deliveries(message.events):
            if delivery.number != self.received + 1 or delivery.number > self.credit.events:
                raise ValueError(f"delivery {delivery.number} after {self.received}, credit {self.credit.events}")
            self.received = delivery.number
            self.waiting.append(delivery)
        if message.HasField("revoke"):
            partitions = set(message.revoke.partitions)
            self.release(lambda key: key % self.subscribed.partition_count in partitions)
        if message.HasField("ended"):
            self.ended = message.ended.reason
        self.arrived.set()

    def close(self):
        self.is_dead = True
        self.arrived.set(), self.wake.set()

    async def next(self):
        """The oldest delivery that waits; None once the link is dead and nothing of it is left."""
        while not self.waiting and not self.is_dead:
            self.arrived.clear()
            await self.arrived.wait()
        return self.waiting.popleft() if self.waiting else None

    def release(self, is_wanted):
        """Gives back what is not in work yet."""
        for delivery in [one for one in self.waiting if one.key is not None and is_wanted(one.key)]:
            self.waiting.remove(delivery)
            self.settle(delivery, pb.Disposition.STATE_RELEASED)

    def settle(self, delivery, state, rejection=None):
        """Processed and settled in one, since this stage holds nothing back."""
        number = delivery.number
        self.settled.append(pb.Disposition(first=number, last=number, state=state, rejection=rejection))
        self.processed = self.processed[0] + 1, self.processed[1] + len(delivery.payload)
        self.wake.set()

    def messages(self):
        """All that there is to say: at least the last credit again, which changes nothing and is the heartbeat."""
        if not self.subscribed:
            return
        told, self.settled = ranges(self.settled), []
        # A message has at most 8 KiB, a rejection may have 300 bytes.
        for at in range(0, len(told), 24):
            yield pb.ConsumerMessage(dispositions=pb.Dispositions(dispositions=told[at:at + 24]))
        if self.cancel:
            yield pb.ConsumerMessage(cancel=self.cancel)
            self.cancel = None
        (events, size), window = self.processed, self.subscribed.window
        if events >= self.due[0] or size >= self.due[1]:
            self.credit = pb.Credit(events=events + window.events, bytes=size + window.bytes)
            self.due = events + (window.events + 1) // 2, size + (window.bytes + 1) // 2
        yield pb.ConsumerMessage(credit=self.credit)
