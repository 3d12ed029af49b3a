"""tests/RESULTS.md and the pictures in save/, made from tests/results/.

    python tests/pictures.py
"""
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median, stdev

import benchmark
from benchmark import OURS, PLAYER, POST, ROOT, ROWS, SEEDS, dqn
import numpy as np

STUDENT = {12: 2.201, 6: 2.571}  # half of a 95 % interval in standard errors, by number of seeds


def lines_of(part):
    return benchmark.read(getattr(benchmark, part))


def numbers(lines, name):
    return [float(line[name]) for line in lines if line[name]]


def middle(values):
    return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def interval(values):
    """The mean with its 95 % t-interval."""
    half = STUDENT[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.0f} ({mean(values) - half:.0f} to {mean(values) + half:.0f})"


def table(*rows):
    head, *rest = rows
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rest))


def seeds():
    lines = lines_of("seeds")
    games, seconds, exams, noisy, past = (
        numbers(lines, name) for name in ("games", "seconds", "exams", "noisy", "past"))
    return f"""\
dqn.py as it is, on the seeds {SEEDS[0]} to {SEEDS[-1]}, once.

{table(
    ["what", "how many, or median (least to most)"],
    ["solved within 1,000 games", f"{sum(line['solved'] == 'True' for line in lines)} of {len(lines)}"],
    ["solved within 600 games", sum(n <= 600 for n in games)],
    ["games until then", middle(games)],
    ["seconds of the whole run, two at a time", middle(seconds)],
    ["exams sat", middle(exams)],
    ["seeds that pass their first exam", exams.count(1)],
    ["players that win 100 of 100 new games of 500 frames", numbers(lines, "won_500").count(100)],
    ["the worst player wins", min(numbers(lines, "won_500"))],
    ["players that win 20 of 20 new games of 5,000 frames", numbers(lines, "won_5000").count(20)],
    ["the worst player wins", min(numbers(lines, "won_5000"))],
    ["mean score with a tenth of the actions random", middle(noisy)],
    ["players that have 475 or more in these games", sum(score >= 475 for score in noisy)],
    [f"mean score of 200 training games past the end, {len(past)} seeds", middle(past)],
    ["the mean of that", f"{mean(past):.0f}"])}
"""


def experiment():
    lines = lines_of("experiment")
    by = {row: {line["seed"]: line for line in lines if line["changed"] == row} for row in ROWS}

    def compared(row, value):
        mine, ours = by[row], by[OURS]
        return interval([value(mine[seed]) - value(ours[seed]) for seed in mine])

    rows = []
    for row in [row for row in ROWS if by[row]]:
        mine = list(by[row].values())
        games = [float(line["games_to_bar"] or 601) for line in mine]
        same = row in (OURS, POST)
        rows.append([
            row, f"{len(games) - games.count(601)} of {len(games)}",
            f"{median(games):.0f}" if median(games) < 601 else "> 600",
            "" if same else compared(row, lambda line: float(line["games_to_bar"] or 601)),
            f"{mean(numbers(mine, 'later')):.0f}",
            "" if same else compared(row, lambda line: -float(line["later"]))])
    ours = mean(numbers([by[OURS][seed] for seed in by[POST]], "later"))
    return f"""\
600 games without a stop, from seed {SEEDS[0]} on. The bar is a mean of 475 over 100 training games
(of the post, on CartPole-v0: 195), without an exam. *Later* is the mean score in games 401 to 600.
*More games* and *points lower* compare the row with dqn.py on the same seeds: the mean difference,
and its 95 % interval (paired t, approximate for so few and such uneven values). A seed that does
not reach the bar counts as 601 games. An interval that contains 0 proves nothing; of such intervals
one in 20 misses the truth by chance. dqn.py's score later on the 12 seeds is {ours:.0f}.

{table(["changed", "reach the bar", "games, median", "more games", "score later", "points lower"],
       *rows)}
"""


def longer():
    return "The post's settings for 3,000 games on CartPole-v0 (the bar: 195).\n\n" + table(
        ["seed", "best mean of 100 games", "mean of the last 200"],
        *([line["seed"], f"{float(line['best']):.0f}", f"{float(line['later']):.0f}"]
          for line in lines_of("longer"))) + "\n"


def shipped():
    line, = lines_of("shipped")
    return f"""\
`python dqn.py` is solved after {len(line['scores'].split())} games here. Its player, in save/, wins
{line['won_1000']} of 1,000 new games of 500 frames, and {line['won_5000']} of 20 of 5,000. With a tenth
of its actions random its mean score in 100 games is {float(line['noisy']):.0f}.
"""


# The pictures in save/

def learning():
    """Median and quartiles of the score over the seeds, and one run game by game."""
    figure = dqn.Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for color, label, row in ("C0", "dqn.py", OURS), ("C3", "the post's settings", POST):
        runs = [[float(score) for score in line["curve"].split()]
                for line in lines_of("experiment") if line["changed"] == row]
        low, mid, high = np.quantile(runs, [0.25, 0.5, 0.75], axis=0)
        games = np.arange(10, 600, 20)
        left.plot(games, mid, color=color, label=f"{label}: median of {len(runs)} seeds")
        left.fill_between(games, low, high, color=color, alpha=0.25, linewidth=0)
    left.fill_between([], [], color="gray", alpha=0.25, label="bands: the middle half of the seeds")
    left.set(title="mean score of 20 games at a time", ylabel="score (frames survived)")
    run = [int(score) for score in lines_of("shipped")[0]["scores"].split()]
    right.plot(run, "C1.", markersize=3, label="each training game")
    right.plot([np.mean(run[max(0, e - 99):e + 1]) for e in range(len(run))], "C0",
               label="mean of the last 100")
    right.set(title="python dqn.py")
    for axes in left, right:
        axes.axhline(475, color="C2", linestyle="--", label="Gym's bar: 475")
        axes.set(xlabel="training game", ylim=(0, 760), yticks=range(0, 501, 100))
        axes.legend(fontsize=8, loc="upper left")
    figure.savefig(ROOT / "save/learning.png", dpi=100)


def animation(name, weights):
    subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", weights, "--gif",
                    ROOT / f"save/player-{name}.gif"], check=True)


if __name__ == "__main__":
    about = subprocess.check_output(["git", "log", "-1", "--format=%h of %as", "tests/results"],
                                    cwd=ROOT, text=True)
    text = f"# Results\n\nMade by tests/pictures.py from the runs in tests/results/, commit {about}"
    for part in seeds, experiment, longer, shipped:
        text += f"\n## {part.__name__}\n\n{part()}"
    (ROOT / "tests/RESULTS.md").write_text(text)
    learning()
    with tempfile.TemporaryDirectory() as folder:
        for name, games in ("early", 16), ("midway", 50):
            weights = Path(folder, f"after-{games}")
            subprocess.run([sys.executable, ROOT / "dqn.py", "--episodes", str(games),
                            "--weights", weights])
            animation(name, f"{weights}.unsolved")
    animation("end", PLAYER)
