"""The training runs behind README.md. tests/pictures.py makes its tables and pictures of them.

    python tests/benchmark.py               all of them, about two hours
    python tests/benchmark.py experiment    only these: experiment, seeds, longer or shipped

A run is `python dqn.py` with a few lines changed, as you could change them in an editor. Two run at
a time. Each adds a line to a file in tests/results/; delete a file to have its runs made anew.
"""
import concurrent.futures
import csv
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import dqn  # noqa: E402  before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

PLAYER = Path(f"{dqn.PLAYER}.weights.h5")
# Settings were chosen on 0 to 35; only the limit of 2,000 games was raised for one of these
SEEDS = range(3000, 3100)


# What is changed: pairs of an old text, which occurs once in dqn.py, and a new one

GO_ON = [("if len(scores) >= 100 and mean >= 475:", "if False:")]  # it is never solved
STEPS_OF_1 = [("fit(states.reshape(-1, 32, 4), target_f.reshape(-1, 32, 2))",
               "fit(states.reshape(-1, 1, 4), target_f.reshape(-1, 1, 2))")]
ALL_MEMORY = [("deque(maxlen=2000)", "[]")]
GAMMA_9 = [("self.gamma = 0.99", "self.gamma = 0.9")]
CLOCK_IS_LOSS = [
    ("reward = -100 if terminated else", "reward = -100 if terminated or truncated else"),
    ("reward, next_state, terminated)", "reward, next_state, terminated or truncated)")]
EPSILON_ONCE = [("self.epsilon *= self.epsilon_decay",
                 "self.epsilon *= self.epsilon_decay ** (1 / 8 if self.memory[-1][4] else 1)")]
AT_MOST_MEMORY = [("np.random.choice(len(self.memory), batch_size)",
                   "np.random.choice(len(self.memory), max(\n"
                   "            32, min(batch_size, len(self.memory) // 32 * 32)))")]


def replays(lost, won, of=2048, decay=".995"):
    """So many replays after a lost and a won game, and what epsilon is multiplied by in each."""
    return [("range(8 if terminated else 1)", f"range({lost} if terminated else {won})"),
            ("agent.replay(2048)", f"agent.replay({of})"),
            ("self.epsilon_decay = .995", f"self.epsilon_decay = {decay}")]


OURS, POST = "dqn.py as it is", "*all: the post*"
ROWS = {
    OURS: [],
    # a departure undone: the post's value
    "`replay(32)`": replays(8, 1, of=32),
    "one replay after a loss, `epsilon` falling as fast": replays(1, 1, decay=".995 ** 8"),
    "`epsilon` falls once a game": EPSILON_ONCE,
    "eight replays after a win": replays(8, 8),
    "a memory of everything": ALL_MEMORY,
    "`gamma` .9": GAMMA_9,
    "`replay` draws at most `len(self.memory)`": AT_MOST_MEMORY,
    "the clock is a loss": CLOCK_IS_LOSS,
    "*both of these*": AT_MOST_MEMORY + CLOCK_IS_LOSS,
    POST: replays(32, 32, of=1, decay=".995 ** (1 / 32)") + STEPS_OF_1 + ALL_MEMORY + GAMMA_9
    + CLOCK_IS_LOSS + [("'CartPole-v1', render_mode=args.render", "'CartPole-v0'")],
}
SIX_SEEDS = {  # rows that are slow, or only controls
    "one state in a step of `fit`": STEPS_OF_1,
    "the predictions change with each step": replays(8 * 64, 64, of=32, decay=".995 ** (1 / 64)"),
    # an idea of the post removed
    "only the last game in the memory": [
        ("state, _ = env.reset()\n        state =",
         "state, _ = env.reset()\n        agent.memory.clear()\n        state =")],
    "no future reward: `gamma` 0": [("self.gamma = 0.99", "self.gamma = 0")],
    "no punishment": [("reward = -100 if terminated else reward", "reward = 1")],
    "no exploring at the start": [("self.epsilon = 1 ", "self.epsilon = 0.1 ")],
    # a control
    "*no learning: targets shuffled*": [
        ("self.fit(states.", "np.random.shuffle(target_f)\n        self.fit(states.")],
}
ROWS |= SIX_SEEDS


# One run

def patched(patches):
    """The text of dqn.py with the patches."""
    text = (ROOT / "dqn.py").read_text()
    for old, new in patches:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def scores_in(stdout):
    return [int(line.split()[3][:-1]) for line in stdout.splitlines() if "score:" in line]


def train(patches, seed, episodes):
    """Run the patched script: its scores, its seconds, whether it is solved, and the agent."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "dqn.py").write_text(patched(patches))
        command, began = [sys.executable, "dqn.py", "--weights", "x"], time.time()
        run = subprocess.run([*command, "--seed", str(seed), "--episodes", str(episodes)],
                             cwd=folder, capture_output=True, text=True)
        seconds, solved = time.time() - began, Path(folder, "x.weights.h5").exists()
        assert scores_in(run.stdout), run.stderr
        name = "x.weights.h5" if solved else "x.unsolved.weights.h5"
        return scores_in(run.stdout), seconds, solved, agent_with(Path(folder, name))


def agent_with(weights):
    """An agent with the weights in a file."""
    agent = dqn.DQNAgent(None)
    agent.load(weights)
    return agent


def fresh(agent, games, frames, exploring=0):
    """Scores of new games of at most so many frames, the same for each agent: (games,).

    exploring: the share of random pushes.
    """
    random = np.random.default_rng(0)
    envs = dqn.gym.make_vec("CartPole-v1", games, max_episode_steps=frames)
    state, _ = envs.reset(seed=10 ** 6 + frames)
    scores, playing = np.zeros(games, int), np.ones(games, bool)
    while playing.any():
        action, pushes = np.argmax(agent.predict(state), axis=1), random.integers(2, size=games)
        action = np.where(random.random(games) < exploring, pushes, action)
        state, _, terminated, truncated, _ = envs.step(action)
        scores += playing
        playing &= ~(terminated | truncated)
    return scores


# The parts: each is a function of its run's arguments, and gives the other columns of a line

def experiment(changed, seed, games=600):
    """So many games of a row without a stop; curve: the mean scores of each 20 games."""
    scores, *_ = train(GO_ON + ROWS[changed], seed, games)
    means = [np.mean(scores[n - 100:n]) for n in range(100, games + 1)]
    bar = 195 if changed == POST else 475
    return dict(games_to_bar=next((100 + n for n, mean in enumerate(means) if mean >= bar), None),
                best=max(means), later=np.mean(scores[-200:]),
                curve=" ".join(f"{mean:.0f}" for mean in np.reshape(scores, (-1, 20)).mean(axis=1)))


def longer(seed):
    """The post for 3,000 games."""
    return experiment(POST, seed, 3000)


def seeds(seed):
    """dqn.py as it is, at most 1,000 games; its player in new games; of 20 seeds, 200 games more.

    exams: how many it sat. noisy: the mean score with a tenth of the actions random.
    """
    scores, seconds, solved, agent = train([], seed, 1000)
    past = None
    if seed in SEEDS[:20]:
        again, *_ = train(GO_ON, seed, len(scores) + 200)
        assert again[:len(scores)] == scores
        past = np.mean(again[len(scores):])
    at_the_bar = [np.mean(scores[n - 100:n]) >= 475 for n in range(100, len(scores) + 1)]
    return dict(solved=solved, games=len(scores), exams=sum(at_the_bar), seconds=seconds, past=past,
                **new_games(agent))


def new_games(agent):
    """How many of 100 games of 500 frames and of 20 of 5,000 it wins; its score exploring."""
    return dict(won_500=(fresh(agent, 100, 500) == 500).sum(),
                won_5000=(fresh(agent, 20, 5000) == 5000).sum(),
                noisy=fresh(agent, 100, 500, exploring=0.1).mean())


def shipped():
    """python dqn.py, which makes the player in save/; that player in 1,000 new games, too."""
    run = subprocess.run([sys.executable, ROOT / "dqn.py"], capture_output=True, text=True)
    agent = agent_with(PLAYER)
    return dict(won_1000=(fresh(agent, 1000, 500) == 500).sum(), **new_games(agent),
                scores=" ".join(map(str, scores_in(run.stdout))))


PARTS = {
    experiment: [(row, seed) for row in ROWS for seed in SEEDS[
        :20 if row == OURS else 6 if row in SIX_SEEDS else 12]],
    seeds: [(seed,) for seed in SEEDS],
    longer: [(seed,) for seed in SEEDS[:4]],
    shipped: [()],
}


def read(part):
    """The lines of a part's file, dictionaries of strings; none if there is no file."""
    file = ROOT / f"tests/results/{part}.csv"
    return list(csv.DictReader(file.open())) if file.exists() else []


def complete(part):
    """Make the runs that are missing in the part's file, each in a new process, two at a time."""
    names = part.__code__.co_varnames[:part.__code__.co_argcount - len(part.__defaults__ or ())]
    done = [tuple(line[name] for name in names) for line in read(part.__name__)]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        runs = {pool.submit(part, *job): job for job in PARTS[part]
                if tuple(map(str, job)) not in done}
        for run in concurrent.futures.as_completed(runs):
            line = dict(zip(names, runs[run]), **run.result())
            with (ROOT / f"tests/results/{part.__name__}.csv").open("a", newline="") as file:
                table = csv.DictWriter(file, line, lineterminator="\n")
                if file.tell() == 0:
                    table.writeheader()
                table.writerow(line)
            print(part.__name__, *runs[run], file=sys.stderr, flush=True)


if __name__ == "__main__":
    for patches in GO_ON, *ROWS.values():
        patched(patches)  # an error, before anything is run, where an old text is not found
    for part in PARTS:
        if part.__name__ in (sys.argv[1:] or [part.__name__]):
            complete(part)
