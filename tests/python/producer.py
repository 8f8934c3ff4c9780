"""A producer stage: numbered events, for one member of one group. See docs/stage-in-any-language.md."""
import argparse, asyncio, contextlib, json, logging, signal, socket, time
import grpc, xxhash
from cloudevents.v1.cloudevents_pb2 import CloudEvent
from jaiminho.v1 import stage_pb2 as pb, stage_pb2_grpc as rpc
from outlet import Entry, Outlet
from wire import Failure, instance

HEARTBEAT_S, DRAIN_S, LOG_EVENTS = 2, 25, 1_000


class Producer(rpc.StageServicer):
    def __init__(self, options):
        self.instance, self.done, self.is_leaving = instance(options.name), asyncio.Event(), False
        self.outlet = Outlet(options.pipeline, options.output, options.group, LOG_EVENTS, self.make, self.settled)
        self.next, self.last = options.first, options.last

    def make(self):
        """What the stage is for: the next event, or None. Whenever it is made, it has the same id."""
        if self.is_leaving or self.next > self.last:
            return None
        number, self.next = self.next, self.next + 1
        event = CloudEvent(id=str(number), source="/python", spec_version="1.0", type="numbered")
        key = event.attributes["partitionkey"].ce_string = f"key-{number % 10}"
        event.text_data = json.dumps({"key": key, "number": number})
        return Entry(number, event.SerializeToString(), xxhash.xxh3_64_intdigest(key))

    def settled(self, entry, rejection):
        outcome = f"rejected {entry.offset} {rejection.text}" if rejection else f"accepted {entry.offset}"
        print(outcome + "\n", end="", flush=True)  # In one write: a kill leaves no half of a line.

    async def Subscribe(self, _, context):
        link, tasks = None, []
        try:
            link = self.outlet.open(await asyncio.wait_for(context.read(), 5 * HEARTBEAT_S))
            await context.write(pb.ProducerMessage(subscribed=pb.Subscribed(
                version=1, window=link.window, instance=self.instance, partition_count=4_096, hash_version=1,
                heartbeat_ms=HEARTBEAT_S * 1000)))
            # Neither waits for the other; the first that returns or raises ends the link.
            tasks = [asyncio.create_task(self.read(link, context)), asyncio.create_task(self.write(link, context))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        except (Failure, asyncio.TimeoutError) as error:
            failure = error if isinstance(error, Failure) else Failure("SILENT", number=5_000 * HEARTBEAT_S)
            logging.warning("link ended: %s", failure)
            await context.abort(failure.code, str(failure), failure.trailers)
        finally:
            [task.cancel() for task in tasks]
            self.outlet.close(link)

    async def read(self, link, context):
        while message := await asyncio.wait_for(context.read(), 5 * HEARTBEAT_S):
            self.outlet.read(link, message)

    async def write(self, link, context):
        said = time.monotonic()
        while not link.failure:
            link.wake.clear()
            frame, now = self.outlet.frame(link), time.monotonic()
            if frame.ends or now - said >= HEARTBEAT_S:
                await context.write(pb.ProducerMessage(events=frame))
                said = now
            elif link.leaves and (not link.sent or now >= link.leaves):
                return
            elif self.is_over():
                reason = pb.Ended.REASON_DRAINING if self.is_leaving else pb.Ended.REASON_FINISHED
                await context.write(pb.ProducerMessage(ended=pb.Ended(last=link.number, reason=reason)))
                return self.done.set()
            else:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(link.wake.wait(), HEARTBEAT_S / 4)
        raise link.failure

    def is_over(self):
        return (self.is_leaving or self.next > self.last) and self.outlet.is_empty()

    def leave(self):
        self.is_leaving = True
        signal.alarm(DRAIN_S)  # The process ends, and with it the link.
        if self.is_over() and not self.outlet.link:
            self.done.set()


async def main(options):
    producer, server = Producer(options), grpc.aio.server()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, producer.leave)
    rpc.add_StageServicer_to_server(producer, server)
    server.add_insecure_port(options.listen)
    await server.start()
    await producer.done.wait()
    await server.stop(5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"listen": "localhost:7400", "pipeline": "", "output": "", "group": "",
                          "name": socket.gethostname(), "first": 1, "last": 1_000}.items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    asyncio.run(main(parser.parse_args()))
