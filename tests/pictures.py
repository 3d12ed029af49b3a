"""`python tests/pictures.py` makes tests/RESULTS.md and save/learning.png of the runs."""
from statistics import mean, median, stdev

from benchmark import OURS, POST, ROOT, ROWS, read
import numpy as np
from matplotlib.figure import Figure

# Half of a 95 % interval in standard errors (Student's t), by the number of seeds
STUDENT = {3: 4.303, 6: 2.571, 12: 2.201, 60: 2.001}

TEXT = """\
# Results

Made by tests/pictures.py from the runs in tests/results/, which tests/benchmark.py made.

## experiment

600 games without a stop, from seed 6000 on. The bar is a mean of 475 over 100 training games (of
the post, on CartPole-v0: 195), without an exam. *Later* is the mean score in games 401 to 600.
*More games* and *points lower* compare the row with dqn.py on the same seeds: the mean difference,
and its 95 % interval (paired t, which is approximate for so few and such uneven values). A seed
that does not reach the bar counts as 601 games. An interval that contains 0 proves nothing, and of
such intervals one in 20 misses the truth by chance. *No lost frame* is the share of the games after
which the memory holds no lost frame. *Lost after a win* is the share of the won games, from the
101st game on, that are followed by a lost one. Rows of 60 seeds were undecided with 20.

{experiment}
## seeds

dqn.py as it is, on 100 seeds from 7000 on, once. *seconds*: the whole run, two at a time. *won*:
how many of 100 new games the player wins. *past*: the mean score of the 200 games after the bar, if
the training goes on: the {past} runs of *experiment*. *1 more*, *8 more*: the games won after so
many more replays, and *flipped*: in how many of the 2,000 states in its memory the player then
chooses the other action (*retrained*, {retrained} seeds from 6000 on). The player in save/
(*shipped*) wins {shipped} of 1,000 new games.

{seeds}
## acrobot

Another environment, Acrobot-v1, with the edits in tests/benchmark.py. Fewer frames are better.

{acrobot}"""


def table(head, *rest):
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def interval(values):
    """The mean with its 95 % t-interval."""
    half = STUDENT[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.0f} ({mean(values) - half:.0f} to {mean(values) + half:.0f})"


def scores_of(line):
    return [int(score) for score in line["scores"].split()]


def runs(row):
    """The runs of a row: seed: its scores."""
    return {line["seed"]: scores_of(line) for line in read("experiment") if line["changed"] == row}


def games_to_bar(row):
    """The runs of a row: seed: after how many games it reaches the bar, or 601."""
    bar = 195 if row == POST else 475
    return {seed: next((n for n in range(100, 601) if sum(scores[n - 100:n]) >= 100 * bar), 601)
            for seed, scores in runs(row).items()}


def later(row):
    """The runs of a row: seed: its mean score in games 401 to 600."""
    return {seed: mean(scores[400:]) for seed, scores in runs(row).items()}


def lost_after_a_win(row):
    """The share of the won games, from the 101st game on, that are followed by a lost one."""
    after = [score for scores in runs(row).values()
             for before, score in zip(scores[100:], scores[101:]) if before == 500]
    return f"{100 * mean(score < 500 for score in after):.0f} %" if after else ""


def experiment():
    yield ["changed", "reach the bar", "games, median", "more games", "later", "points lower",
           "no lost frame", "lost after a win"]
    our_games, our_score = games_to_bar(OURS), later(OURS)
    for row in filter(runs, ROWS):
        games, score = games_to_bar(row), later(row)
        middle, reach = median(games.values()), sum(n < 601 for n in games.values())
        no_lost = mean(int(line["no_lost_frame"]) for line in read("experiment")
                       if line["changed"] == row)
        compared = ["", ""] if row in (OURS, POST) else [
            interval([games[seed] - our_games[seed] for seed in games]),
            interval([our_score[seed] - score[seed] for seed in score])]
        yield [row, f"{reach} of {len(games)}", f"{middle:.0f}" if middle < 601 else "> 600",
               compared[0], f"{mean(score.values()):.0f}", compared[1], f"{no_lost / 6:.0f} %",
               lost_after_a_win(row)]


def seeds():
    yield ["", "mean", "median", "least", "most"]
    bar = games_to_bar(OURS)
    columns = {n: [line[n] for line in read("seeds")] for n in ("games", "exams", "seconds", "won")}
    columns["past"] = [mean(scores[bar[seed]:][:200]) for seed, scores in runs(OURS).items()]
    for name, column, n in ("1 more", "won", 0), ("8 more", "won", 7), ("flipped", "flipped", 7):
        columns[name] = [line[column].split()[n] for line in read("retrained")]
    for name, values in columns.items():
        yield [name, *(f"{figure(map(float, values)):.0f}" for figure in (mean, median, min, max))]


def acrobot():
    yield ["seed", "first 30 games", "last 30"]
    for line in read("acrobot"):
        yield [line["seed"], *(f"{mean(part):.0f}" for part in (
            scores_of(line)[:30], scores_of(line)[-30:]))]


def learning():
    """Median and quartiles of the score over the seeds."""
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    for color, label, row in ("C0", "dqn.py", OURS), ("C3", "the post's settings (of 200)", POST):
        curves = [np.reshape(scores, (-1, 20)).mean(axis=1) for scores in runs(row).values()]
        low, mid, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
        games = np.arange(10, 600, 20)
        axes.plot(games, mid, color=color, label=f"{label}: median of {len(curves)} seeds")
        axes.fill_between(games, low, high, color=color, alpha=0.25, linewidth=0)
    axes.fill_between([], [], color="gray", alpha=0.25, label="bands: the middle half of the seeds")
    axes.axhline(475, color="C2", linestyle="--", label="Gym's bar: 475")
    axes.set(xlabel="training game", ylabel="mean score of 20 games", ylim=(0, 510))
    axes.legend(loc="center right")
    axes.figure.savefig(ROOT / "save/learning.png", dpi=100)


if __name__ == "__main__":
    (ROOT / "tests/RESULTS.md").write_text(TEXT.format(
        experiment=table(*experiment()), seeds=table(*seeds()), acrobot=table(*acrobot()),
        past=len(runs(OURS)), retrained=len(read("retrained")), shipped=read("shipped")[0]["won"]))
    learning()
