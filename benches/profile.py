"""Stage table and flame graphs from the samples that profile.sh took."""

import argparse
import collections
import html
import json
import re
import statistics
import struct
import subprocess

STAGES = ["read", "parse", "map", "core", "commit", "deliver", "write", "rest"]

# What a thread does, whatever function it is in.
THREADS = [
    (r"^lockstep-core", "core"),
    (r"^(lockstep-(write|sync|read)|rocksdb)", "commit"),
]

# On the threads of connections: the innermost frame that a pattern finds decides. Frames read
# "path function"; paths of other crates begin with the crate's name.
FRAMES = [
    (r"connection_driver\.rs .*poll_read_some|tokio_rustls.*poll_read|rustls.*(read_tls|process_new_packets|decrypt|deframe)", "read"),
    (r"connection_driver\.rs .*poll_write_some|tokio_rustls.*poll_(write|flush)|rustls.*(write_tls|encrypt)", "write"),
    (r"^crates/amqp/src/message/", "map"),
    (r"^crates/protocol/", "map"),
    (r"^crates/amqp/src/(codec/(encode|performative)|outbox|link/outgoing|session/dispositions)", "deliver"),
    (r"^crates/amqp/src/(codec|connection/(frames|lifecycle)|link/incoming|session/frames)", "parse"),
    (r"^crates/amqp/src/.*(process|on_frame|step)", "parse"),
    (r"^crates/broker/src/runtime/(client|mailbox)", "core"),
    (r"^crates/server/src/connection/.*(drain_events|message_sent|disposed|receiver_credit|::submit|::event)", "map"),
    (r"^crates/server/src/connection/", "deliver"),
    (r"^crates/broker/src/runtime/inbox", "deliver"),
    (r"^crates/amqp/src/", "deliver"),
]
THREADS = [(re.compile(pattern), stage) for pattern, stage in THREADS]
FRAMES = [(re.compile(pattern), stage) for pattern, stage in FRAMES]


def samples(path):
    """Each sample: thread, and frames (address, symbol, binary) from the innermost outward."""
    thread, frames = None, []
    for line in open(path, errors="replace"):
        line = line.rstrip("\n")
        if not line:
            if thread is not None:
                yield thread, frames
            thread, frames = None, []
        elif not line.startswith(("\t", " ")):
            thread = line.strip()
        else:
            found = re.match(r"\s*([0-9a-f]+) (.*) \((.*)\)$", line)
            if found and found[2] != "[unknown]":
                frames.append((int(found[1], 16), found[2].split("+0x")[0], found[3]))
    if thread is not None:
        yield thread, frames


def segments(binary):
    """Offset, size and address of what the ELF file maps: perf names places by offset."""
    with open(binary, "rb") as file:
        header = file.read(64)
        at, size, count = struct.unpack_from("<32xQ14xHH", header)
        file.seek(at)
        table = file.read(size * count)
    for index in range(count):
        kind, offset, address, length = struct.unpack_from("<I4xQQ8xQ", table, index * size)
        if kind == 1:
            yield offset, length, address


def resolve(binary, offsets):
    """Functions at places of the file, inlined ones first, as (path, function)."""
    mapped = list(segments(binary))
    places = {}
    for offset in offsets:
        for start, length, address in mapped:
            if start <= offset < start + length:
                places.setdefault(offset - start + address, []).append(offset)
                break
    asked = "".join(f"{address:#x}\n" for address in places)
    said = subprocess.run(
        ["addr2line", "-a", "-f", "-i", "-C", "-e", binary], input=asked, capture_output=True, text=True, check=True
    ).stdout
    resolved, current = {}, []
    lines = iter(said.splitlines())
    for line in lines:
        if re.fullmatch(r"0x[0-9a-f]+", line):
            current = []
            for offset in places.get(int(line, 16), []):
                resolved[offset] = current
        else:
            current.append((short_path(next(lines, "??")), line))
    return resolved


def short_path(path):
    """The path inside our checkout, else from the crate's name on; empty if it is not known."""
    path = re.sub(r"( \(discriminator \d+\)|:[\d?]+)+$", "", path)
    found = re.search(r"(?:^|/)(crates/(?!.*/crates/).*)$", path) or re.search(r"/registry/src/[^/]+/(.*)$", path)
    if found:
        return found[1]
    return "" if path.startswith("?") else path.rsplit("/", 1)[-1]


def expand(frames, resolved, binary):
    """Frames with what was inlined into them, as (path, function), from the innermost outward."""
    for index, (address, symbol, where) in enumerate(frames):
        # Outer addresses are where a call returns to.
        inner = resolved.get(address - (index > 0), []) if where == binary else []
        known = [frame for frame in inner if frame[0]]
        yield from known or [("", symbol)]


def stage_of(thread, frames):
    for pattern, stage in THREADS:
        if pattern.search(thread):
            return stage
    for path, function in frames:
        text = f"{path} {function}"
        for pattern, stage in FRAMES:
            if pattern.search(text):
                return stage
    return "rest"


def analyse(path, binary):
    """Samples by stage, and folded stacks."""
    taken = list(samples(path))
    offsets = {
        address - (index > 0)
        for _, frames in taken
        for index, (address, _, where) in enumerate(frames)
        if where == binary
    }
    resolved = resolve(binary, sorted(offsets))
    stages, stacks = collections.Counter(), collections.Counter()
    for thread, frames in taken:
        frames = list(expand(frames, resolved, binary))
        stages[stage_of(thread, frames)] += 1
        stacks[(thread, *(short_name(function) for _, function in reversed(frames)))] += 1
    return stages, stacks


def short_name(function):
    """Without type arguments and hashes: a flame is narrow."""
    function = re.sub(r"::h[0-9a-f]{16}$", "", function)
    while (shorter := re.sub(r"(?<!^)<[^<>]*>", "", function)) != function:
        function = shorter
    return function


def flame_graph(stacks, title):
    """A flame graph as SVG text: callers below, width is time, the rest in tool tips."""
    width, row, least = 1600, 16, 0.0005
    root, total = [0, {}], sum(stacks.values())
    for stack, count in stacks.items():
        node = root
        node[0] += count
        for name in stack:
            node = node[1].setdefault(name, [0, {}])
            node[0] += count
    boxes, deepest = [], 0

    def lay(node, name, left, depth):
        nonlocal deepest
        if node[0] < least * total:
            return
        deepest = max(deepest, depth)
        boxes.append((left, depth, node[0], name))
        for child, below in sorted(node[1].items()):
            lay(below, child, left, depth + 1)
            left += below[0]

    lay(root, title, 0, 0)
    height = (deepest + 1) * row
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace" font-size="11">'
    ]
    for left, depth, count, name in boxes:
        x, w = left / total * width, count / total * width
        y = height - (depth + 1) * row
        shade = sum(map(ord, name)) % 60
        text = html.escape(name[: max(0, int(w / 6.7))]) if w > 25 else ""
        tip = html.escape(f"{name}: {100 * count / total:.1f} % ({count} samples)")
        lines.append(
            f'<g><title>{tip}</title><rect x="{x:.1f}" y="{y}" width="{max(w - 0.3, 0.2):.1f}" height="{row - 1}" '
            f'fill="rgb({225 + shade // 2},{120 + shade},{60 + shade})"/><text x="{x + 2:.1f}" y="{y + 11}">{text}</text></g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser()
    for option in ["--bin", "--dir", "--out"]:
        parser.add_argument(option, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args()
    columns, cpu, messages = {}, {}, {}
    for name in ["plain", "tls"]:
        shares, costs, rates, stacks, taken = [], [], [], None, 0
        for run in range(1, options.runs + 1):
            report = json.load(open(f"{options.dir}/{name}-{run}.json"))
            costs.append(report["broker_cpu_us_per_message"])
            rates.append(report["messages_per_s"])
            stages, stacks = analyse(f"{options.dir}/{name}-{run}.script", options.bin)
            shares.append({stage: stages[stage] / max(1, sum(stages.values())) for stage in STAGES})
            taken += sum(stages.values())
        columns[name] = {stage: statistics.median(share[stage] for share in shares) for stage in STAGES}
        cpu[name], messages[name] = statistics.median(costs), statistics.median(rates)
        with open(f"{options.out}/profile-{name}.svg", "w") as file:
            file.write(flame_graph(stacks, f"lockstep serve, bench pipe, {name}"))
        print(
            f"{name}: {taken} samples, broker CPU a message {cpu[name]:.1f} us "
            f"(runs {', '.join(f'{cost:.1f}' for cost in costs)}), {messages[name]:,.0f} messages/s"
        )
    print()
    print("| stage | plain TCP, us | | TLS, us | |")
    print("|---|---|---|---|---|")
    for stage in STAGES:
        cells = [f"{columns[n][stage] * cpu[n]:.2f} | {100 * columns[n][stage]:.0f} %" for n in ["plain", "tls"]]
        print(f"| {stage} | {' | '.join(cells)} |")
    print(f"| **all** | **{cpu['plain']:.1f}** | | **{cpu['tls']:.1f}** | |")


if __name__ == "__main__":
    main()
