"""tests/RESULTS.md and the pictures in save/, made from tests/results/ without any training.

    python tests/pictures.py
"""
import csv
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import BAR, POST, RESULTS, ROOT, ROWS, SEEDS, SOLUTION, dqn
import numpy as np
from scipy import stats


def read(name):
    """The rows of tests/results/name.csv: dictionaries; numbers are floats, and "" is None."""
    def value(text):
        try:
            return float(text) if text else None
        except ValueError:
            return {"True": True, "False": False}.get(text, text)
    with open(RESULTS / f"{name}.csv", newline="") as file:
        return [{key: value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def column(rows, name):
    return [row[name] for row in rows if row[name] is not None]


def middle(values, digits=0):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def interval(values):
    """The mean with its 95 % t-interval."""
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    return f"{mean(values):.0f} ({low:.0f} to {high:.0f})"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def means(scores):
    """After each game the mean of the last 100; before there are 100, of those there are."""
    return [np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))]


def curves(file, name):
    """The scores of each run of a row, as lists."""
    return [[int(score) for score in row["scores"].split()] for row in read(file)
            if row["row"] == name]


# The sections of RESULTS.md

def seeds():
    rows = read("seeds")
    good = [row for row in rows if row["games"]]
    exams, past, stays, noisy = (column(good, name) for name in ("exams", "past", "stays", "noisy"))
    failed = [row for row in good if row["long_whole"] < 100]
    text = f"""\
dqn.py on {len(rows)} seeds, {SEEDS[0]} to {SEEDS[-1]}, that nothing was tuned on, once.
{len(good)} are solved within 1,000 games, {sum(row["games"] <= 600 for row in good)} within 600.
Until then (median and range): {middle(column(good, "games"))} games,
{middle(column(good, "frames"))} frames, {middle(column(good, "seconds"), 1)} seconds
since the process began, two runs at a time on a machine in other use.
{exams.count(1)} seeds sat one exam, {sum(n > 1 for n in exams)} more ({max(exams):.0f} at most).

100 fresh games of 5,000 frames without exploring, the same for all networks:
{len(good) - len(failed)} of {len(good)} networks win all of them.
"""
    for row in failed:
        text += (f"That of seed {row['seed']:.0f} wins {row['long_whole']:.0f} (worst: "
                 f"{row['long_worst']:.0f} frames), and {row['short_whole']:.0f} of 100 of 500.\n")
    return text + f"""
In 100 of Gym's own games, of 500 frames and from the middle of the track, with a tenth of the
pushes random, {sum(score >= BAR for score in noisy)} of the networks have a mean of {BAR:.0f} or
more, and the worst one {min(noisy):.0f}.

{len(past)} of these seeds were trained for 200 games more. Their mean training score in these
games: {mean(past):.0f} on average, worst {min(past):.0f}; {sum(score >= BAR for score in past)}
seeds at {BAR:.0f} or more. *stays*, the share of these games before which 20 games without
exploring all last 500 frames: {mean(stays):.2f} on average, worst {min(stays):.2f}.
"""


def experiment():
    rows = read("experiment")
    later = {(row["row"], row["seed"]): row["score_later"] for row in rows}
    lines = []
    for name in ROWS:
        mine = [row for row in rows if row["row"] == name]
        if not mine:  # the benchmark was stopped before it
            continue
        games = column(mine, "games_to_bar")
        lost = [later["dqn.py", row["seed"]] - row["score_later"] for row in mine]
        never = [float("inf")] * (len(mine) - len(games))
        lines.append([name, f"{len(games)} of {len(mine)}",
                      f"{median(games + never):.0f}".replace("inf", "never"),
                      f"{median(column(mine, 'score_later')):.0f}",
                      "" if name in ("dqn.py", POST) else interval(lost)])
    return f"""\
600 games without a stop on seeds from {SEEDS[0]} on; the bar is a mean of {BAR:.0f} over 100
training games (of {POST}, on CartPole-v0: 195), without an exam. *Later* is in games 401 to 600.
*Lost* is dqn.py's score minus the row's on the same seeds, the mean with its 95 % t-interval. A
seed that does not reach the bar counts as later than all others in the median.

""" + table(["changed", "reach the bar", "after games (median)", "median score later",
             "score lost"], lines)


def luck():
    networks, trained = read("luck"), read("lucky")
    kept = sum(row["after"] >= BAR for row in trained)
    return f"""\
Of {len(networks)} untrained networks {sum(row["passes_exam"] for row in networks)} pass the exam,
and {len(trained)} would reach the bar if they stayed as they are: with a tenth of the pushes
random, 100 games have a mean of {BAR:.0f} or more. These {len(trained)} were trained on by dqn.py's
rule, with epsilon .1 and a memory of 10 games of their own: {kept} keep a mean of {BAR:.0f} in the
next 100 games, whose mean is {middle(column(trained, "after"))}. One replay after a won game moves
the weights by {median(column(trained, "moved")):.1%} of their length (median).
"""


def peers():
    rows = read("peers")
    lines = [[f"{row['seed']:.0f}", *(f"{row[name]:.{digits}f}" for name, digits in (
        ("seconds", 1), ("games", 0), ("frames", 0), ("pass_seconds", 1), ("pass_frames", 0),
        ("peer_seconds", 1), ("peer_frames", 0)))] for row in rows]
    ratios = [row["seconds"] / row["peer_seconds"] for row in rows]
    alike = [row["pass_seconds"] / row["peer_seconds"] for row in rows]
    return f"""\
Stable-Baselines3's DQN with the CartPole settings of its zoo (tests/peer.py), in turn with dqn.py,
one process and one thread at a time, on seeds that nothing was tuned on. *Pass* is the first time
that 20 games without exploring last 5,000 frames each; the looking is not counted. dqn.py's other
seconds are those until its weights are on the disk, bar and exam passed and counted. Ratios:
dqn.py solved to the peer's pass {middle(ratios, 2)}; pass to pass {middle(alike, 2)} (median
and range).
The peer's settings were tuned for another goal than this pass, and its epsilon ends at .04.

""" + table(["seed", "dqn.py, solved: seconds", "games", "frames", "dqn.py, pass: seconds",
             "frames", "the peer, pass: seconds", "frames"], lines)


def calls():
    return "Milliseconds, median, one thread; fit and replay of 2,048 states.\n\n" + table(
        ["call", "ms"], [[row["call"], f"{row['ms']:g}"] for row in read("calls")])


def shipped():
    return "The weights in save/, in games that neither the training nor its exam has seen.\n\n" + (
        table(["games", "frames at most", "share of random pushes", "mean", "worst", "whole"], [
            [f"{value:g}" for value in row.values()] for row in read("shipped")]))


def way():
    return "Networks on the way, in 100 fresh games of 500 frames, without exploring.\n\n" + table(
        ["seed", "after games", "mean score", "games in which the pole fell", "the cart left"],
        [[f"{value:.0f}" for value in row.values()] for row in read("way")])


# The pictures

def learning():
    """Median and quartiles of the mean of 100 games, and one run game by game."""
    figure = dqn.Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for color, name, runs in (("C0", "dqn.py", curves("scores", "dqn.py")),
                              ("C3", "the post's settings", curves("scores", POST))):
        runs = [means(scores)[:600] for scores in runs]
        low, mid, high = np.quantile(runs, [0.25, 0.5, 0.75], axis=0)
        left.plot(mid, color=color, label=f"{name}: median of {len(runs)} seeds")
        left.fill_between(range(600), low, high, color=color, alpha=0.25, linewidth=0)
    left.fill_between([], [], color="gray", alpha=0.25, label="bands: the middle half of the seeds")
    left.set(title="mean of the last 100 games", ylabel="score (frames survived)")
    scores = curves("default-run", "seed 0")[0]
    right.plot(scores, "C1.", markersize=3, label="each training game")
    right.plot(means(scores), "C0", label="mean of the last 100")
    right.set(title="python dqn.py")
    for axes in left, right:
        axes.axhline(BAR, color="C2", linestyle="--", label=f"Gym's bar: {BAR:.0f}")
        axes.set(xlabel="training game", ylim=(0, 760), yticks=range(0, 501, 100))
        axes.legend(fontsize=8, loc="upper left")
    figure.savefig(ROOT / "save/learning.png", dpi=100)


def animations(files):
    """One game of the network in each file, into save/player-NAME.gif."""
    for name, file in files.items():
        subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", file, "--gif",
                        ROOT / f"save/player-{name}.gif"], check=True)


if __name__ == "__main__":
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (
        "tensorflow", "keras", "numpy", "gymnasium"))
    text = f"""\
# Results

Made by `python tests/pictures.py` from tests/results/, which `python tests/benchmark.py` writes.
{os.cpu_count()} cores, no GPU, {platform.system()}, Python {platform.python_version()}, {versions}.
"""
    for part in seeds, experiment, luck, peers, calls, shipped, way:
        if (RESULTS / f"{part.__name__}.csv").exists():
            text += f"\n## {part.__name__}\n\n{part()}"
    (ROOT / "tests/RESULTS.md").write_text(text)
    learning()
    animations({"early": RESULTS / "after-5.weights.h5", "midway": RESULTS / "after-60.weights.h5",
                "end": SOLUTION})
