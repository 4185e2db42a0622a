"""Medians and ratios of the runs that run.sh made, as Markdown."""

import datetime
import json
import os
import platform
import statistics
import sys

COLUMNS = [
    ("messages_per_s", "messages/s", "{:,.0f}"),
    ("broker_cpu_us_per_message", "broker CPU a message, us", "{:,.1f}"),
    ("broker_rss_max_mb", "most resident, MB", "{:,.0f}"),
    ("syncs_per_s", "syncs a second", "{:,.0f}"),
    ("broker_disk_bytes_per_message", "to disk a message, B", "{:,.0f}"),
    ("generator_cpu_us_per_message", "generator CPU a message, us", "{:,.1f}"),
]
LATENCIES = [
    ("accepted_p50_us", "accepted p50, us", "{:,.0f}"),
    ("accepted_p99_us", "p99", "{:,.0f}"),
    ("accepted_p999_us", "p99.9", "{:,.0f}"),
    ("delivered_p50_us", "delivered p50, us", "{:,.0f}"),
    ("delivered_p99_us", "p99", "{:,.0f}"),
    ("broker_cpu_us_per_message", "broker CPU a message, us", "{:,.0f}"),
]


def median(runs, key):
    """The median over rounds, or None if a round lacks the key."""
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if len(values) == len(runs) else None


def processor():
    """The processor's name."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(runs, columns, with_rates):
    """Rows of one scenario, and nothing if it was not run."""
    if not runs:
        return
    peers = list(dict.fromkeys(run["peer"] for run in runs))
    columns = [column for column in columns if any(column[0] in run for run in runs)]
    heads = ["broker"] + [title for _, title, _ in columns] + (["messages/s of each round"] if with_rates else [])
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for peer in peers:
        own = [run for run in runs if run["peer"] == peer]
        cells = [own[0]["version"]]
        for key, _, form in columns:
            value = median(own, key)
            cells.append("" if value is None else form.format(value))
        if with_rates:
            cells.append(" / ".join(f"{run['messages_per_s']:,.0f}" for run in own))
        print("| " + " | ".join(cells) + " |")
    print()


def ratios(runs):
    """How Lockstep compares with each other broker, by medians and by rounds."""
    own = [run for run in runs if run["peer"] == "lockstep"]
    for peer in dict.fromkeys(run["peer"] for run in runs if run["peer"] != "lockstep"):
        theirs = [run for run in runs if run["peer"] == peer]
        if not own:
            return
        rate = median(own, "messages_per_s") / median(theirs, "messages_per_s")
        cpu = median(theirs, "broker_cpu_us_per_message") / median(own, "broker_cpu_us_per_message")
        rounds = [a["messages_per_s"] / b["messages_per_s"] for a, b in zip(own, theirs)]
        print(
            f"* {own[0]['version']} to {theirs[0]['version']}: {rate:.1f} times the messages a second "
            f"(rounds {min(rounds):.1f} to {max(rounds):.1f}), {cpu:.1f} times less broker CPU a message"
        )
    print()


def main():
    """Prints everything."""
    with open(sys.argv[1], encoding="utf-8") as lines:
        runs = [json.loads(line) for line in lines]
    pipes = [run for run in runs if run["scenario"] == "pipe"]
    latencies = [run for run in runs if run["scenario"] == "latency"]
    first = pipes[0]
    rounds = sum(run["peer"] == first["peer"] for run in pipes)
    print(
        f"{datetime.date.today()}, {os.cpu_count()} processors ({processor()}), Linux {platform.release()}; "
        f"median of {rounds} alternating rounds of {first['seconds']:.0f} s after {first['warm_up_s']} s of warm-up; "
        f"1 durable queue, {first['senders']} + {first['receivers']} connections, {first['body_bytes']:,} B bodies, "
        f"{first['in_flight_per_sender']} in flight a sender, credit {first['credit_per_receiver']:,} a receiver. "
        f"Load average at the end: {os.getloadavg()[0]:.1f}.\n"
    )
    table(pipes, COLUMNS, True)
    ratios(pipes)
    if latencies:
        print(f"Latency at {latencies[0]['rate']:,} messages a second, 1 + 1 connections, open loop:\n")
        table(latencies, LATENCIES, False)
    print("Before a message counts as accepted:\n")
    for peer in dict.fromkeys(run["peer"] for run in runs):
        run = next(run for run in runs if run["peer"] == peer)
        print(f"* {run['version']}: {run['durability']}.")


main()
