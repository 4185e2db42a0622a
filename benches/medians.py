"""Medians of the runs that figures.sh made, as a Markdown table."""

import json
import statistics
import sys

# What each scenario's line shows: key of the report, and how it is written.
COLUMNS = {
    "start": [("start_ms", "start {:.0f} ms"), ("idle_rss_mb", "idle {:.1f} MB resident")],
    "pipe": [
        ("messages_per_s", "{:,.0f} messages/s"),
        ("broker_cpu_us_per_message", "{:.1f} us broker CPU a message"),
        ("generator_cpu_us_per_message", "generator {:.1f} us"),
        ("accepted_p50_us", "accepted p50 {:,.0f} us"),
        ("delivered_p50_us", "delivered p50 {:,.0f} us"),
        ("broker_rss_mb", "{:.0f} MB resident"),
        ("broker_disk_bytes_per_message", "{:,.0f} B to disk a message"),
    ],
    "sessions": [
        ("fill_messages_per_s", "sent {:,.0f}/s before"),
        ("messages_per_s", "{:,.0f} messages/s"),
        ("sessions_closed_per_s", "{:,.0f} message sessions accepted, drained and closed/s"),
        ("broker_cpu_us_per_message", "{:.1f} us broker CPU a message"),
        ("generator_cpu_us_per_message", "generator {:.1f} us"),
        ("session_hold_p50_us", "held p50 {:,.0f} us"),
        ("broker_rss_mb", "{:.0f} MB resident"),
    ],
    "latency": [
        ("accepted_p50_us", "accepted p50 {:,.0f} us"),
        ("accepted_p99_us", "p99 {:,.0f} us"),
        ("delivered_p50_us", "delivered p50 {:,.0f} us"),
        ("delivered_p99_us", "p99 {:,.0f} us"),
        ("fdatasync_4k_p50_us", "one fdatasync p50 {:,.0f} us"),
        ("fdatasync_4k_p99_us", "p99 {:,.0f} us"),
        ("broker_cpu_us_per_message", "{:.1f} us broker CPU a message"),
    ],
}


def load(run):
    """The load of a run, in words."""
    if run["scenario"] == "start":
        return "empty clean directory"
    parts = [
        f"{run['queues']} queue{'s' if run['queues'] > 1 else ''}",
        f"{run['senders']} + {run['receivers']} connections",
        f"{run['body_bytes']:,} B bodies",
    ]
    if "rate" in run:
        parts.append(f"{run['rate']:,} messages a second")
    else:
        parts.append(f"{run['in_flight_per_sender']} in flight a sender")
    if run["scenario"] == "sessions":
        parts.append(
            f"{run['message_sessions']:,} message sessions of {run['messages_per_session']} messages, "
            f"{run['rounds']} rounds, {run['sessions_held_per_receiver']} held at a time a connection"
        )
    return ", ".join(parts)


def main():
    """Reads the runs and prints a line for each scenario."""
    runs = {}
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            run = json.loads(line)
            runs.setdefault(run["name"], []).append(run)
    print("| scenario | load | median | messages/s of each run |")
    print("|---|---|---|---|")
    for name, group in runs.items():
        texts = [
            form.format(statistics.median(run[key] for run in group))
            for key, form in COLUMNS[group[0]["scenario"]]
            if all(key in run for run in group)
        ]
        if all("syncs" in run for run in group):
            per_sync = statistics.median(run["messages"] / max(run["syncs"], 1) for run in group)
            syncs = statistics.median(run["syncs"] / run["seconds"] for run in group)
            texts.append(f"{syncs:,.0f} syncs/s, {per_sync:,.1f} messages a sync")
        rates = [f"{run['messages_per_s']:,.0f}" for run in group if "messages_per_s" in run]
        print(f"| {name} | {load(group[0])} | {'; '.join(texts)} | {' / '.join(rates)} |")


main()
