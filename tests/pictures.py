"""`python tests/pictures.py` makes RESULTS.md and three pictures of the runs in tests/results/."""
from statistics import mean, median, stdev

import numpy as np
from benchmark import (
    ACROBOT, ANGLES, ON_V0, OURS, POST, ROOT, ROWS, RULES, SHRINKING, VELOCITIES, WITH_LOSSES, read)
from matplotlib.figure import Figure

# Half of a 95 % interval in standard errors (Student's t), by the number of seeds
STUDENT = {10: 2.262, 20: 2.093, 40: 2.023}

UNDONE = {  # the rows of the picture in README, in its order
    OURS: "dqn.py, all changes",
    "one replay after a loss, `epsilon` as fast": "one replay after a lost game",
    "`learning_rate` .0001": "learning_rate .0001",
    "`gamma` .9": "gamma .9",
    "`epsilon` falls once a lost game": "epsilon falls once a lost game",
    "replays after won games, too": "replays after won games, too",
    "a memory of everything": "a memory of everything",
    "time that is up is a loss": "time that is up is a loss",
    POST: "all undone: the post",
}

EXPERIMENT = read("experiment")
# Of the players only: one of the ten agents of another row wins no game before its replays
BURST = [line for line in read("burst") if line["won before"] in ("", "100")]

TEXT = """\
# Results

Made by tests/pictures.py from the runs in tests/results/, which tests/benchmark.py made.

## experiment

Each row is dqn.py with something changed, for 400 games without a stop (as it is, for 600), on
seeds from 21000 on.

- *Bar*: how many seeds reach a mean of 475 over 100 of the 400 training games, without an exam (on
  CartPole-v0, from *the post* to *a memory of 2,000*: 195), and after how many games in the median.
- *More games* and *points lower*: compared with dqn.py on the same seeds, in games to the bar and
  in the score of games 301 to 400; the mean difference and its 95 % interval (paired t,
  approximate for such uneven values). A seed that does not reach the bar counts as 401 games, which
  makes *more games* too small. An interval that contains 0 proves nothing. Of intervals like these
  one in 20 misses the truth by chance, so of this table's {intervals} you may expect {missed} to.
- *Later*: the mean score in games 301 to 400, over the seeds, and of the worst seed.
- *Won*: how many of 100 new games of CartPole-v1 the agent wins without exploring, after game 400,
  in the mean; *all 100*: how many seeds win them all.
- *Next won*: in games 201 to 400, how often the game after a won one is won, too.

How many seeds was fixed before a look at any, with these exceptions. The memory of everything:
after a look at seven of its 20, all those were thrown away, and those from 21020 on made in their
place. 60 seeds became 40 for want of time, before a look at any beyond the first 20. The rows
*after wins, ...* were planned with 20 seeds and cut to 10 for want of time, before a look at any
beyond the third. These rows, 8, 16 and 32 replays and `gamma` 1 were run on another processor than
the others.

No single change suffices: 64 replays, a `gamma` of .99, no replay after won games or a memory of
2,000, each added to the post with one step of .001 (*the same, and ...*), never reach the bar. (No
replay after won games changes nothing there, as no game is won.)

{experiment}
## burst

Twenty players, solved by dqn.py as it is, seeds from 21000 on, replay 64 times on their own memory
(their last four games, all won), ten times each from the same weights, memory and state of the
optimizer. *Won*: in how many of these draws the player wins all of 100 new games after so many
replays; *lost*: in how many it loses more than half after 64. *Rises*: by how much the Q values
of the memory's states change. *Moves*: by how much the difference of their two Q values does.
*Turned*: the share of these states in which the other action is now the better one. All are medians
over the states, then over the draws, then over the players. Before them, the difference is
{gap:.2f} in the median of the players ({gaps}), and their Q values are {low:.0f} to {high:.0f} (100
would be right for a game that never ends). In the draws that still win all, {kept:.0f}% of the
choices have turned in the median, where more than half is lost {gone:.0f}%. The ten draws of a
player are much alike: {never} players never win all of 100 games after 64 replays, {always} always
do.

*Smaller steps*: `RMSprop(learning_rate=.002, epsilon=1)`, not proved to protect a player that
learnt without. *Target network*: the solved player makes the targets. *All held*: also the value of
the action that was not taken. *Lost games put back*: the memory holds the latest 2,000 frames of
lost games besides its own. The last two rows are of {whole} other agents, which learnt with smaller
steps: those of the ten of *{shrinking}* that win all of 100 games after game 400. Their
difference is {their_gap:.2f} ({their_gaps}), their Q values {their_low:.0f} to {their_high:.0f}.

{burst}
## Other departures from the post

CartPole-v1 (500 frames) replaces v0 (200); `agent.predict` is a faster `model.predict`; scores
count from 1, not 0; `act` asks the agent's own environment. The script takes a seed, prints more,
stops when solved, saves its weights on the way, and shows a player. Keras's RMSprop now adds its
epsilon (1e-7) inside the root. None of these was made for the score.

## seeds

dqn.py as it is, on 60 seeds from 21000 on, once. *seconds*: the whole run, two at a time. *won*:
how many of 100 new games the player wins. *past*: the mean score of 200 games after the bar (for
one seed, 170), if the training goes on (the runs of *experiment*, which end after game 600). The
player in save/ (*shipped*) wins {shipped} of 1,000 new games.

{seeds}
## acrobot

Acrobot-v1 for 300 games, where fewer frames are better, with these edits of dqn.py, each in all
places. (It ends with *not solved*, as there is no exam. An `epsilon` that stays at 1.00 says that
nothing is replayed.)

{edits}
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
    return {int(line["seed"]): scores_of(line) for line in EXPERIMENT if line["changed"] == row}


def on_v0(row):
    return ON_V0[-1] in ROWS[row][0]


def games_to_bar(row, most=400):
    """The runs of a row: seed: after how many games it reaches the bar, or most + 1."""
    bar = 19500 if on_v0(row) else 47500
    return {seed: next((n for n in range(100, most + 1) if sum(scores[n - 100:n]) >= bar), most + 1)
            for seed, scores in runs(row).items()}


def reached(row):
    """How many of a row's seeds reach the bar within 400 games: "3 of 20"."""
    games = games_to_bar(row).values()
    return f"{sum(n <= 400 for n in games)} of {len(games)}"


def later(row):
    """The runs of a row: seed: its mean score in games 301 to 400."""
    return {seed: mean(scores[300:400]) for seed, scores in runs(row).items()}


def won(row):
    """The runs of a row: how many of 100 games each wins without exploring, after game 400."""
    return [int(line["won"]) for line in EXPERIMENT if line["changed"] == row]


def skilled(row):
    """How many of a row's seeds win all of these 100 games: "3 of 20"."""
    return f"{won(row).count(100)} of {len(won(row))}"


def past():
    """dqn.py as it is: the mean score in up to 200 games after the bar, a figure for each seed."""
    bar = games_to_bar(OURS, 600)
    return [mean(scores[bar[seed]:][:200]) for seed, scores in runs(OURS).items()]


def next_won(row):
    """How often the game after a won one is won, in games 201 to 400: "99% of 7615"."""
    after = [scores[e + 1] == 500 for scores in runs(row).values() for e in range(200, 399)
             if scores[e] == 500]
    return f"{100 * mean(after):.0f}% of {len(after)}" if after else ""


def compared(row):
    """Whether a row is compared with dqn.py as it is."""
    return row != OURS and not on_v0(row) and len(runs(row)) >= 10


def experiment():
    yield ["changed", "bar", "games, median", "more games", "later", "worst", "points lower",
           "won", "all 100", "next won"]
    our_games, our_score = games_to_bar(OURS), later(OURS)
    for row in filter(runs, ROWS):
        games, score = games_to_bar(row), later(row)
        middle = median(games.values())
        more, lower = [
            interval([games[seed] - our_games[seed] for seed in games]),
            interval([our_score[seed] - score[seed] for seed in score])
        ] if compared(row) else ["", ""]
        yield [row, reached(row), f"{middle:g}" if middle < 401 else "> 400", more,
               f"{mean(score.values()):.0f}", f"{min(score.values()):.0f}", lower,
               f"{mean(won(row)):.0f}", skilled(row), next_won(row)]


def numbers(line, column):
    return [float(number) for number in line[column].split()]


def before(changed, name):
    """A figure of each player before its replays: gap or Q."""
    return [float(line[name]) for line in BURST if line["changed"] == changed]


def still_won(rule, replays=64, changed=OURS):
    """After so many replays: in how many draws all of 100 games are won, of how many."""
    draws = [won for line in BURST if line["changed"] == changed
             for won in numbers(line, f"{rule}, won after {replays}")]
    return f"{draws.count(100)} of {len(draws)}"


def middle(column, changed=OURS):
    """The median over the players of the median over their draws."""
    return median(median(numbers(line, column)) for line in BURST if line["changed"] == changed)


def turned(least, most):
    """The median share of choices that have turned in draws that win so many games afterwards."""
    return 100 * median(share for line in BURST if line["changed"] == OURS for share, won in zip(
        numbers(line, "as it is, turned"), numbers(line, "as it is, won after 64"))
        if least <= won <= most)


def ruined(rule, changed=OURS):
    """In how many draws more than half of the games are lost after 64 replays."""
    return sum(won < 50 for line in BURST if line["changed"] == changed
               for won in numbers(line, f"{rule}, won after 64"))


def burst():
    yield ["player of", "replays", "won after 1", "won after 8", "won after 64", "lost", "rises",
           "moves", "turned"]
    players = {OURS: "dqn.py", SHRINKING: "smaller steps",
               WITH_LOSSES: "dqn.py, lost games put back"}
    for rule, changed in [*((rule, OURS) for rule in RULES), (RULES[0], WITH_LOSSES),
                          *((rule, SHRINKING) for rule in RULES[:2])]:
        yield [players[changed], rule,
               *(still_won(rule, replays, changed) for replays in (1, 8, 64)),
               ruined(rule, changed), f"{middle(f'{rule}, rose', changed):.1f}",
               f"{middle(f'{rule}, moved', changed):.2f}",
               f"{100 * middle(f'{rule}, turned', changed):.0f}%"]


def seeds():
    yield ["", "mean", "median", "90th percentile", "least", "most"]
    columns = {n: [float(line[n]) for line in read("seeds")]
               for n in ("games", "exams", "seconds", "won")}
    for name, values in {**columns, "past": past()}.items():
        yield [name, *(f"{figure(values):.1f}" for figure in (
            mean, median, lambda values: np.quantile(values, .9), min, max))]


def acrobot():
    yield ["seed", "first 30 games", "last 30"]
    for line in read("acrobot"):
        yield [line["seed"], *(f"{mean(part):.0f}" for part in (
            scores_of(line)[:30], scores_of(line)[-30:]))]


def edits():
    yield ["in dqn.py", "for Acrobot-v1"]
    for old, new in ACROBOT:
        yield [f"`{old.strip()}`", f"`{new.strip()}`" if new else "(no such line)"]


def learning():
    """Median and quartiles of the score over the seeds, each game's mean with its neighbours."""
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    for color, label, row, bar in (("C0", "dqn.py", OURS, "475 of 500"),
                                   ("C3", "the post's settings", POST, "195 of 200")):
        curves = [np.reshape(scores[:400], (-1, 20)).mean(axis=1) for scores in runs(row).values()]
        low, mid, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
        games = np.arange(10, 400, 20)
        axes.plot(games, mid, color=color, label=f"{label}: median of {len(curves)} seeds")
        axes.fill_between(games, low, high, color=color, alpha=0.25, linewidth=0)
        axes.axhline(int(bar[:3]), color=color, linestyle="--", label=f"its bar: {bar}")
    axes.fill_between([], [], color="gray", alpha=0.25, label="bands: the middle half of the seeds")
    axes.set(xlabel="training game", ylabel="mean score of 20 games", ylim=(0, 510))
    axes.legend(loc="center right", framealpha=1)
    axes.figure.savefig(ROOT / "save/learning.png", dpi=100)


def undone():
    """A bar for each row: the share of its seeds that win all of 100 new games."""
    axes = Figure(figsize=(8, 3.5), layout="constrained").subplots()
    shares = [100 * mean(games == 100 for games in won(row)) for row in UNDONE]
    colors = [{OURS: "C0", POST: "C3"}.get(row, "C1") for row in UNDONE]
    bars = axes.barh(list(UNDONE.values()), shares, color=colors)
    axes.bar_label(bars, map(skilled, UNDONE), padding=4)
    axes.set(xlabel="seeds that win all of 100 new games after game 400, %", xlim=(0, 115),
             xticks=range(0, 101, 20))
    axes.invert_yaxis()
    axes.figure.savefig(ROOT / "save/undone.png", dpi=100)


def look():
    """The larger Q value at three stages of a training, where the choice turns, and last states."""
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    looks = np.load(ROOT / "tests/results/shipped.npz")
    panels = figure.subplots(1, 3, sharey=True)
    titles = "after 5 games", "after 40 games", "in the end"
    for axes, stage, title in zip(panels, ("early", "midway", "end"), titles, strict=True):
        values = looks[f"{stage} Q"].reshape(len(VELOCITIES), len(ANGLES), 2)
        colors = axes.pcolormesh(ANGLES, VELOCITIES, values.max(axis=2), shading="gouraud",
                                 cmap="RdYlGn", vmin=-100, vmax=100)
        axes.contour(ANGLES, VELOCITIES, values[:, :, 1] - values[:, :, 0], [0], colors="black")
        _, _, angle, velocity = looks[f"{stage} states"].T
        axes.plot(np.degrees(angle), velocity, "k.", markersize=2, alpha=.4)
        axes.set(title=title, xlabel="angle (degrees)", xlim=ANGLES[[0, -1]],
                 ylim=VELOCITIES[[0, -1]])
    panels[0].set_ylabel("angular velocity (rad/s)")
    figure.colorbar(colors, ax=panels, label="larger Q value")
    figure.savefig(ROOT / "save/look.png", dpi=100)


if __name__ == "__main__":
    intervals = 2 * sum(map(compared, ROWS))
    gaps, values = before(OURS, "gap"), before(OURS, "Q")
    theirs, their_values = before(SHRINKING, "gap"), before(SHRINKING, "Q")
    draws = [numbers(line, "as it is, won after 64") for line in BURST if line["changed"] == OURS]
    (ROOT / "tests/RESULTS.md").write_text(TEXT.format(
        burst=table(*burst()), shrinking=SHRINKING, gap=median(gaps), low=min(values),
        high=max(values), gaps=f"{min(gaps):.2f} to {max(gaps):.2f}", their_gap=median(theirs),
        their_gaps=f"{min(theirs):.2f} to {max(theirs):.2f}", their_low=min(their_values),
        their_high=max(their_values), whole=len(theirs),
        kept=turned(100, 100), gone=turned(0, 49), never=sum(100 not in won for won in draws),
        always=sum(set(won) == {100} for won in draws),
        experiment=table(*experiment()), seeds=table(*seeds()),
        edits=table(*edits()), acrobot=table(*acrobot()), shipped=read("shipped")[0]["won"],
        intervals=intervals, missed=f"{.05 * intervals:.0f}"))
    learning()
    undone()
    look()
