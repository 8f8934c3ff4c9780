"""A consumer stage: prints each event's data, and rejects some. See docs/stage-in-any-language.md."""
import argparse, asyncio, contextlib, logging, random, signal, socket, sys, time
import grpc
from cloudevents.v1.cloudevents_pb2 import CloudEvent
from jaiminho.v1 import stage_pb2 as pb, stage_pb2_grpc as rpc
from intake import Intake
from wire import failure, instance

FRAME_BYTES_MAX, MAX_FAILURES, DRAIN_S = 4 << 20, 5, 25
# gRPC lets channels to one address share a connection; each link needs its own.
CHANNEL = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", FRAME_BYTES_MAX)]
STOP = (pb.LinkFailure.KIND_FENCED, pb.LinkFailure.KIND_REPLACED, pb.LinkFailure.KIND_LAGGED)


def handle(payload, options):
    """What the stage is for. Returns nothing, or why it rejects the event; when it raises, it is tried again."""
    event = CloudEvent.FromString(payload)
    data = event.text_data or event.binary_data.decode(errors="replace")
    time.sleep(options.work_ms / 1000)
    if options.reject and options.reject in data:
        return pb.Rejection(reason=pb.Rejection.REASON_INVALID, text=f"{options.reject} is not liked here")
    print(data + "\n", end="", flush=True)


async def work(intake, options):
    while delivery := await intake.next():
        rejection = pb.Rejection(reason=pb.Rejection.REASON_EXHAUSTED)
        for failures in range(MAX_FAILURES):
            with contextlib.suppress(Exception):
                # In a thread: heartbeats go on however long it takes.
                rejection = await asyncio.to_thread(handle, delivery.payload, options)
                break
            await asyncio.sleep(0.1 * 2**failures)
        state = pb.Disposition.STATE_REJECTED if rejection else pb.Disposition.STATE_ACCEPTED
        intake.settle(delivery, state, rejection)
        if rejection and intake.is_dead:
            intake.release(lambda key: key == delivery.key)


async def write(intake, call, subscribe):
    await call.write(pb.ConsumerMessage(subscribe=subscribe))
    while not intake.is_dead:
        intake.wake.clear()
        for message in intake.messages():
            await call.write(message)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(intake.wake.wait(), intake.heartbeat_s)


async def link(options, subscribe, intake):
    """One call of Subscribe. Reading, working and writing never wait for each other. Returns why it ended."""
    end = pb.LinkFailure(text="the stream ended")
    async with grpc.aio.insecure_channel(options.connect, CHANNEL) as channel:
        call = rpc.StageStub(channel).Subscribe()
        tasks = [asyncio.create_task(work(intake, options)), asyncio.create_task(write(intake, call, subscribe))]
        try:
            while message := await asyncio.wait_for(call.read(), 5 * intake.heartbeat_s):
                intake.read(message)
        except (asyncio.TimeoutError, ValueError) as error:
            end = pb.LinkFailure(text=str(error) or "five heartbeats missed")
        except grpc.aio.AioRpcError as error:
            end = failure(error)
    logging.warning("link %d ended: %s %s", subscribe.link_counter, pb.LinkFailure.Kind.Name(end.kind), end.text)
    intake.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return end.kind


async def main(options):
    subscribe = pb.Subscribe(
        version_min=1, version_max=1, pipeline=options.pipeline, output=options.output, group=options.group,
        kind=pb.GroupKind.Value(f"GROUP_KIND_{options.kind.upper()}"), instance=instance(options.name),
        event_bytes_max=1 << 20,
        window=pb.Window(events=options.window, bytes=1 << 20), frame_bytes_max=FRAME_BYTES_MAX)
    stop, intake, bound_s = asyncio.Event(), None, 0.1

    def leave():
        stop.set()
        signal.alarm(DRAIN_S)  # The process ends: what it has not settled by then goes to another.
        intake.cancel = pb.Cancel(drain=True, time_left_ms=DRAIN_S * 1000)
        intake.wake.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
    while not stop.is_set():
        subscribe.link_counter, intake = subscribe.link_counter + 1, Intake()
        kind = await link(options, subscribe, intake)
        if kind in STOP or intake.ended == pb.Ended.REASON_FINISHED:
            sys.exit(kind)
        bound_s = 0.1 if intake.received else min(2 * bound_s, 5)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), random.uniform(0, bound_s))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"connect": "localhost:7400", "pipeline": "", "output": "", "group": "", "kind": "required",
                          "name": socket.gethostname(), "window": 100, "work_ms": 0.0, "reject": ""}.items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    asyncio.run(main(parser.parse_args()))
