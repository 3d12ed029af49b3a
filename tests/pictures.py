"""tests/RESULTS.md and the pictures in save/, made from tests/results/ without any training.

    python tests/pictures.py
"""
import importlib.metadata
import os
import platform
import subprocess
import sys
from statistics import mean, median

import benchmark
from benchmark import BAR, POST, RESULTS, ROOT, ROWS, SEEDS, SOLUTION, dqn
import numpy as np
from scipy import stats

OURS = "dqn.py as it is"


def where(rows, name, value):
    return [row for row in rows if row[name] == value]


def numbers(rows, name):
    return [float(row[name]) for row in rows if row[name]]


def middle(values, digits=0):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def interval(values):
    """The mean with its 95 % t-interval."""
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    return f"{mean(values):.0f} ({low:.0f} to {high:.0f})"


def plain(head, rows):
    """A table of the rows as they are, but for the code."""
    return table(head, [[f"{float(value):.4g}" for value in list(row.values())[:-1]]
                        for row in rows])


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


# The sections of RESULTS.md, each from the rows of its file

def seeds(rows):
    solved = [row for row in rows if row["games"]]
    games, exams, noisy = (numbers(solved, name) for name in ("games", "exams", "noisy"))
    past, stays = numbers(rows, "past"), numbers(rows, "stays")
    failed = [row for row in solved if row["long_whole"] != "100"]
    text = f"""\
dqn.py on {len(rows)} seeds, {SEEDS[0]} to {SEEDS[-1]}, once. This recipe was chosen on other seeds.
(An earlier recipe, with SGD, was reported on the same seeds.)
{len(solved)} are solved within 1,000 games, {sum(n <= 600 for n in games)} within 600.
Until then (median and range): {middle(games)} games, {middle(numbers(solved, "frames"))} frames,
{middle(numbers(solved, "seconds"), 1)} seconds since the process began, two runs at a time.
{exams.count(1)} seeds sat one exam, {sum(n > 1 for n in exams)} more ({max(exams):.0f} at most).

100 fresh games of 5,000 frames without exploring, the same for all networks:
{len(solved) - len(failed)} of {len(solved)} networks win all of them.
"""
    for row in failed:
        text += (f"That of seed {row['seed']} wins {row['long_whole']} (the worst one lasts "
                 f"{row['long_worst']} frames), and {row['short_whole']} of 100 of 500 frames.\n")
    return text + f"""
100 of Gym's own games, of 500 frames and from the middle of the track, with a tenth of the pushes
random: {sum(score >= BAR for score in noisy)} of the networks have a mean of {BAR:.0f} or more.
The mean score of all is {mean(noisy):.0f}, that of the worst {min(noisy):.0f}.

{len(past)} of these seeds were trained for 200 games more. Their mean training score in these
games: {mean(past):.0f} on average, {min(past):.0f} at worst; {sum(score >= BAR for score in past)}
seeds at {BAR:.0f} or more. *stays*, the share of these games before which 20 games without
exploring all last 500 frames: {mean(stays):.2f} on average, {min(stays):.2f} at worst.
"""


def experiment(rows):
    def figures(name):
        """Games to the bar (601: not in 600) and score later, by seed."""
        return {row["seed"]: (int(row["games_to_bar"] or 601), float(row["later"]))
                for row in where(rows, "changed", name)}

    ours, lines = figures(OURS), []
    for name in ROWS:
        mine = figures(name)
        games, later = zip(*mine.values())
        more = [mine[seed][0] - ours[seed][0] for seed in mine]
        lost = [ours[seed][1] - mine[seed][1] for seed in mine]
        compared = name not in (OURS, POST)
        lines.append([
            name, f"{len(games) - games.count(601)} of {len(games)}",
            f"{median(games):.0f}" if median(games) < 601 else "> 600",
            interval(more) if compared else "", f"{mean(later):.0f}",
            interval(lost) if compared else ""])
    return f"""\
600 games without a stop on the seeds from {SEEDS[0]} on. The bar is a mean of {BAR:.0f} over 100
training games (of the post, on CartPole-v0: 195), without an exam. *Later* is the mean score in
games 401 to 600. *More games* and *score lost* compare the row with dqn.py on the same seeds: the
mean difference, and its 95 % interval (paired t, which is approximate for so few and such uneven
values). A seed that does not reach the bar counts as 601 games. An interval that contains 0 proves
nothing; and of the intervals, one in 20 will miss the truth by chance. Where the clock is a loss,
each game begins anew, too; and games that begin anew are easier. Of the steps of 8 frames there are
eight times as many. dqn.py's own line is of 20 seeds; on the 12 of the other rows its score later
is {mean(ours[seed][1] for seed in figures(POST)):.0f}.

""" + table(["changed", "reach the bar", "games (median)", "more games", "score later",
             "score lost"], lines)


def rates(rows):
    lines = [[rate, f"{len(numbers(mine, 'games_to_bar'))} of {len(mine)}",
              f"{mean(numbers(mine, 'later')):.0f}"]
             for rate in dict.fromkeys(row["rate"] for row in rows)
             for mine in [where(rows, "rate", rate)]]
    return "The same with other learning rates, on seeds 0 to 5, which were tuned on.\n\n" + table(
        ["rate", "reach the bar", "score later"], lines)


def exams(rows):
    kinds = {name: where(rows, "changed", name) for name in dict.fromkeys(
        row["changed"] for row in rows)}
    alike = [row["seed"] for row in next(iter(kinds.values()))]
    kinds[OURS] = [row for row in benchmark.read("seeds") if row["seed"] in alike]
    return "Training until an exam is passed, for at most 1,000 games.\n\n" + table(
        ["", "pass", "games (median and range)", "exams sat in all", "by the worst seed"],
        [[name, f"{sum(row.get('passed') != 'False' for row in mine)} of {len(mine)}",
          middle(numbers(mine, "games")), f"{sum(numbers(mine, 'exams')):.0f}",
          f"{max(numbers(mine, 'exams')):.0f}"] for name, mine in kinds.items()])


def longer(rows):
    return "The post's settings for 3,000 games: the best mean of 100 games, and the last.\n\n" + (
        plain(["seed", "best", "last"], rows))


def luck(rows):
    passing, lucky = (sum(len(row[name].split()) for row in rows) for name in ("passing", "lucky"))
    trained = benchmark.read("lucky")
    return f"""\
Of {100 * len(rows)} untrained networks {passing} pass the exam, and {lucky} would reach the bar if
they stayed as they are: with a tenth of the pushes random, 100 games have a mean of {BAR:.0f} or
more. {len(trained)} of these then played 100 games in dqn.py's way, where a won game goes on, with
epsilon .1: {sum(score >= BAR for score in numbers(trained, "before"))} had a mean of {BAR:.0f}
({middle(numbers(trained, "before"))}). Trained by dqn.py's rule in 100 games more,
{sum(score >= BAR for score in numbers(trained, "after"))} had it
({middle(numbers(trained, "after"))}). One replay, as after a won game, moves the weights by
{median(numbers(trained, "moved")):.1%} of their length (median).
"""


def race(rows):
    def of(who, column):
        return numbers(where(rows, "who", who), column)

    peer, ratios = of("peer", "seconds"), []
    for who in "solved", "first pass":
        ratios.append(middle([ours / its for ours, its in zip(of(who, "seconds"), peer)], 2))
    return f"""\
Stable-Baselines3's DQN with the CartPole settings of its zoo (tests/peer.py), in turn with dqn.py,
one process and one thread at a time, on seeds that nothing was tuned on. *First pass*: the first
time that 20 games without exploring last 5,000 frames each; dqn.py is looked at after every game,
the peer after every 1,000 frames, and the looking is not counted. *Solved*:
bar and exam passed, weights on the disk. dqn.py's seconds divided by the peer's first pass
(median and range): solved {ratios[0]}, first pass {ratios[1]}.
The peer's settings were tuned for another goal than this one, and its epsilon ends at .04.

""" + table(["who", "seed", "seconds", "frames"], [
        [row["who"], row["seed"], f"{float(row['seconds']):.1f}", row["frames"]] for row in rows])


def calls(rows):
    return "Milliseconds, median of 20; fit is given 2,048 states, predict one.\n\n" + table(
        ["call", "ms"], [each for each in rows[0].items() if each[0] != "code"])


def shipped(rows):
    return "The weights in save/, in games that neither the training nor its exam has seen.\n\n" + (
        plain(["games", "frames at most", "share of random pushes", "mean", "worst", "won"], rows))


def way(rows):
    return "Networks on the way, in 100 fresh games of 500 frames, without exploring.\n\n" + plain(
        ["seed", "after games", "mean score", "games where the pole fell", "the cart left"], rows)


# The pictures

def learning():
    """Median and quartiles of the score over the seeds, and one run game by game."""
    figure = dqn.Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for color, label, name in (("C0", "dqn.py", OURS),
                               ("C3", "the post's settings, games of 200", POST)):
        runs = [[float(score) for score in row["curve"].split()]
                for row in where(benchmark.read("experiment"), "changed", name)]
        low, mid, high = np.quantile(runs, [0.25, 0.5, 0.75], axis=0)
        games = np.arange(10, 600, 20)
        left.plot(games, mid, color=color, label=f"{label}: median of {len(runs)} seeds")
        left.fill_between(games, low, high, color=color, alpha=0.25, linewidth=0)
    left.fill_between([], [], color="gray", alpha=0.25, label="bands: the middle half of the seeds")
    left.set(title="mean score of 20 games at a time", ylabel="score (frames survived)")
    scores = [int(score) for score in benchmark.read("whole_run")[0]["scores"].split()]
    right.plot(scores, "C1.", markersize=3, label="each training game")
    right.plot([np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))], "C0",
               label="mean of the last 100")
    right.set(title="python dqn.py")
    for axes in left, right:
        axes.axhline(BAR, color="C2", linestyle="--", label=f"Gym's bar: {BAR:.0f}")
        axes.set(xlabel="training game", ylim=(0, 760), yticks=range(0, 501, 100))
        axes.legend(fontsize=8, loc="upper left")
    figure.savefig(ROOT / "save/learning.png", dpi=100)


if __name__ == "__main__":
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (
        "tensorflow", "keras", "numpy", "gymnasium"))
    text = f"""\
# Results

Made by `python tests/pictures.py` from tests/results/, which `python tests/benchmark.py` writes.
{os.cpu_count()} cores, no GPU, {platform.system()}. Python {platform.python_version()},
{versions}.
"""
    for part in seeds, experiment, rates, exams, longer, luck, race, calls, shipped, way:
        rows = benchmark.read(part.__name__)
        if not rows:
            continue  # the benchmark was stopped before it
        code = benchmark.code_of(getattr(benchmark, part.__name__))
        old = len(rows) - len(where(rows, "code", code))
        text += f"\n## {part.__name__}\n\n" + part(rows)
        text += f"\n({old} of these {len(rows)} runs were made by older code.)\n" if old else ""
    (ROOT / "tests/RESULTS.md").write_text(text)
    learning()
    for name, file in (("early", RESULTS / "after-5.weights.h5"),
                       ("midway", RESULTS / "after-60.weights.h5"), ("end", SOLUTION)):
        subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", file, "--gif",
                        ROOT / f"save/player-{name}.gif"], check=True)
