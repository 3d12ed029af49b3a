"""tests/RESULTS.md and the pictures in save/, made from the runs in tests/results/.

    python tests/pictures.py
"""
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median, stdev

import benchmark
from benchmark import OURS, PLAYER, POST, ROOT, ROWS, dqn
import numpy as np

STUDENT = {12: 2.201, 6: 2.571}  # half of a 95 % interval in standard errors, by number of seeds


def interval(values):
    """The mean with its 95 % t-interval."""
    half = STUDENT[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.0f} ({mean(values) - half:.0f} to {mean(values) + half:.0f})"


def table(*rows):
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def experiment(lines):
    by = {row: {line["seed"]: line for line in lines if line["changed"] == row} for row in ROWS}
    rows = []
    for row, mine in by.items():
        games, later, more, lower = [], [], [], []
        for seed, line in mine.items():
            games.append(int(line["games_to_bar"] or 601))
            later.append(float(line["later"]))
            more.append(games[-1] - int(by[OURS][seed]["games_to_bar"] or 601))
            lower.append(float(by[OURS][seed]["later"]) - later[-1])
        middle = f"{median(games):.0f}" if median(games) < 601 else "> 600"
        compared = ["", ""] if row in (OURS, POST) else [interval(more), interval(lower)]
        reach = f"{len(games) - games.count(601)} of {len(games)}"
        rows.append([row, reach, middle, compared[0], f"{mean(later):.0f}", compared[1]])
    return """\
600 games without a stop, from seed 3000 on. The bar is a mean of 475 over 100 training games (of
the post, on CartPole-v0: 195), without an exam. *Later* is the mean score in games 401 to 600.
*More games* and *points lower* compare the row with dqn.py on the same seeds: the mean difference,
and its 95 % interval (paired t, which is approximate for so few and such uneven values). A seed
that does not reach the bar counts as 601 games. An interval that contains 0 proves nothing, and of
such intervals one in 20 misses the truth by chance.

""" + table(["changed", "reach the bar", "games, median", "more games", "later", "points lower"],
            *rows)


def seeds(lines):
    def numbers(name):
        return [float(line[name]) for line in lines if line[name]]

    return f"""\
dqn.py as it is, on {len(lines)} seeds from 3000 on, once, for at most 1,000 games. *seconds*:
the whole run, two at a time.
*won_500*, *won_5000*: how many of 100 new games of 500 frames, and of 20 of 5,000, the player wins.
*noisy*: its mean score in 100 games with a tenth of the actions random. *past*: the mean score of
200 more games of training, {len(numbers("past"))} seeds.

- solved: {[line["solved"] for line in lines].count("True")} of {len(lines)}
- within 600 games: {sum(games <= 600 for games in numbers("games"))}
- in the first exam: {numbers("exams").count(1)}
- players that win all games of 500 frames: {numbers("won_500").count(100)}
- players that win all games of 5,000 frames: {numbers("won_5000").count(20)}
- players that have 475 or more with a tenth of the actions random: \
{sum(score >= 475 for score in numbers("noisy"))}

""" + table(["", "mean", "median", "least", "most"], *(
        [name, *(f"{figure(numbers(name)):.0f}" for figure in (mean, median, min, max))]
        for name in ("games", "exams", "seconds", "won_500", "won_5000", "noisy", "past")))


def longer(lines):
    """The post's settings for 3,000 games on CartPole-v0, where the bar is 195."""
    return longer.__doc__ + "\n\n" + table(
        ["seed", "best mean of 100 games"], *([line["seed"], line["best"]] for line in lines))


def shipped(lines):
    """The player in save/: the games won of 1,000 new ones, and otherwise as in *seeds*."""
    names = ["won_1000", "won_500", "won_5000", "noisy"]
    return shipped.__doc__ + "\n\n" + table(names, *([line[name] for name in names]
                                                    for line in lines))


def learning():
    """Median and quartiles of the score over the seeds, and one run game by game."""
    figure = dqn.Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for color, label, row in ("C0", "dqn.py", OURS), ("C3", "the post's settings (of 200)", POST):
        runs = [[float(score) for score in line["curve"].split()]
                for line in benchmark.read("experiment") if line["changed"] == row]
        low, mid, high = np.quantile(runs, [0.25, 0.5, 0.75], axis=0)
        games = np.arange(10, 600, 20)
        left.plot(games, mid, color=color, label=f"{label}: median of {len(runs)} seeds")
        left.fill_between(games, low, high, color=color, alpha=0.25, linewidth=0)
    left.fill_between([], [], color="gray", alpha=0.25, label="bands: the middle half of the seeds")
    left.set(title="mean score of 20 games at a time", ylabel="score (frames survived)")
    run = [int(score) for score in benchmark.read("shipped")[0]["scores"].split()]
    right.plot(run, "C1.", markersize=3, label="each training game")
    right.plot([np.mean(run[max(0, e - 99):e + 1]) for e in range(len(run))], "C0",
               label="mean of the last 100")
    right.set(title="python dqn.py")
    for axes in left, right:
        axes.axhline(475, color="C2", linestyle="--", label="Gym's bar: 475")
        axes.set(xlabel="training game", ylim=(0, 760), yticks=range(0, 501, 100))
        axes.legend(fontsize=8, loc="upper left")
    figure.savefig(ROOT / "save/learning.png", dpi=100)


def animations():
    """One game each of seed 0's network after 16 games, after 50, and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        for name, games in ("early", 16), ("midway", 50), ("end", None):
            weights = PLAYER
            if games:
                weights = Path(folder, f"{name}.unsolved")
                subprocess.run([sys.executable, ROOT / "dqn.py", "--episodes", str(games),
                                "--weights", Path(folder, name)])
            subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", weights,
                            "--gif", ROOT / f"save/player-{name}.gif"], check=True)


if __name__ == "__main__":
    log = ["git", "log", "-1", "--format=%h of %as", "tests/results"]
    text = f"""\
# Results

Made by tests/pictures.py from the runs in tests/results/, which tests/benchmark.py made; commit
{subprocess.check_output(log, cwd=ROOT, text=True)}"""
    for part in experiment, seeds, longer, shipped:
        text += f"\n## {part.__name__}\n\n{part(benchmark.read(part.__name__))}"
    (ROOT / "tests/RESULTS.md").write_text(text)
    learning()
    animations()
