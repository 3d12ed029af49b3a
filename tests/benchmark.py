"""The training runs behind README.md. tests/pictures.py makes its tables and pictures of them.

    python tests/benchmark.py               all of them, some hours
    python tests/benchmark.py experiment    only these: seeds, experiment, retrained, ...

A run is `python dqn.py` with a few lines changed, as you could change them in an editor. Two run at
a time. Each adds a line to a file in tests/results/; delete a file to have its runs made anew.
"""
import concurrent.futures
import csv
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")  # as dqn.py does for itself
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import dqn  # noqa: E402
import numpy as np  # noqa: E402

PLAYER = ROOT / "save/cartpole-dqn.weights.h5"


# What is changed: pairs of an old text in dqn.py and a new one

NO_STOP = ("exam_due = len(scores) >= 100 and mean >= 475", "exam_due = False")
GO_ON = [NO_STOP, (":.2f}\")", ":.2f}, lost frames: {sum(frame[4] for frame in agent.memory)}\")")]
IN_LOOP = [  # the post's loop in compiled code, as otherwise each frame costs three calls of Keras
    ("self.fit(states, target_f)",
     "_, actions, rewards, _, done = zip(*(self.memory[i] for i in batches))\n"
     "        self.fit(states, next_states, np.eye(2)[list(actions)] == 1,\n"
     "                 np.float32(rewards), self.gamma * ~np.array(done))"),
    ("def fit(self, states, targets)", "def fit(self, states, next_states, taken, rewards, gamma)"),
    ("self.model.train_step((states[i], targets[i]))",
     "future = tf.reduce_max(self.model(next_states[i]))\n"
     "            target = rewards[i] + tf.cast(gamma[i], tf.float32) * future\n"
     "            target_f = tf.where(taken[i], target, self.model(states[i]))\n"
     "            self.model.train_step((states[i], target_f))")]
RETRAIN = [("            if solved:\n", """\
            states = np.reshape([frame[0] for frame in agent.memory], (-1, 4))
            actions = np.argmax(agent.predict(states), axis=1)
            for _ in range(8 * solved):
                agent.replay(256)
                flipped = np.argmax(agent.predict(states), axis=1) != actions
                print("flipped:", np.sum(flipped), "won:", sit_exam(agent, exam))
            if solved:\n""")]
ALL_MEMORY = [("deque(maxlen=2000)", "[]")]
GAMMA_9 = [("self.gamma = 0.99", "self.gamma = 0.9")]
CLOCK_IS_LOSS = [
    ("reward = -100 if terminated else", "reward = -100 if terminated or truncated else"),
    ("reward, next_state, terminated)", "reward, next_state, terminated or truncated)")]
AT_MOST_MEMORY = [("np.random.choice(len(self.memory), batch_size)",
                   "np.random.choice(len(self.memory), min(batch_size, len(self.memory)))")]


def replays(lost, won=0, of=256, decay=".995"):
    """So many replays after a lost and a won game, and what epsilon is multiplied by in each."""
    when = [("if terminated or exam_due:", "if True:")] if won else []
    count = f"range({lost} if terminated else {won})"
    return when + [("range(8)", count), ("agent.replay(256)", f"agent.replay({of})"),
                   ("self.epsilon_decay = .995", f"self.epsilon_decay = {decay}")]


OURS, POST = "dqn.py as it is", "*all: the post*"
ROWS = {  # name: what is changed, and on how many seeds
    OURS: ([], 60),
    "`replay(32)`": (replays(8, of=32), 6),
    "`replay(128)`": (replays(8, of=128), 6),
    "`replay(512)`": (replays(8, of=512), 6),
    "targets made in the loop": (IN_LOOP, 60),
    "one replay after a loss": (replays(1, decay=".995 ** 8"), 6),
    "one of 2,048 after a loss": (replays(1, of=2048, decay=".995 ** 8"), 6),
    "four replays after a loss": (replays(4, decay=".995 ** 2"), 6),
    "`epsilon` falls once a game": (replays(8, decay=".995 ** (1 / 8)"), 6),
    "one replay after a win, too": (replays(8, 1), 12),
    "eight replays after a win, too": (replays(8, 8), 6),
    "the same, with a memory of 20,000": (replays(8, 8) + [("maxlen=2000", "maxlen=20_000")], 3),
    "a memory of everything": (ALL_MEMORY, 60),
    "`gamma` .9": (GAMMA_9, 6),
    "`replay` draws at most `len(self.memory)`": (AT_MOST_MEMORY, 3),
    "time that is up is a loss": (CLOCK_IS_LOSS, 6),
    "*both of these*": (AT_MOST_MEMORY + CLOCK_IS_LOSS, 3),
    POST: (replays(1, 1, of=32) + AT_MOST_MEMORY + IN_LOOP + ALL_MEMORY + GAMMA_9 + CLOCK_IS_LOSS
           + [("'CartPole-v1', render_mode=None", "'CartPole-v0'")], 3),
    "*no learning: targets shuffled*": (
        [("self.fit(states", "np.random.shuffle(target_f)\n        self.fit(states")], 3),
}
ACROBOT = [("gym.make('CartPole-v1'", "gym.make('Acrobot-v1'"), ("shape=(4,)", "shape=(6,)"),
           ("[1, 4]", "[1, 6]"), ("(-1, 1, 4)", "(-1, 1, 6)"), ("Dense(2,", "Dense(3,"),
           ("            reward = -100 if terminated else reward\n", ""),
           ("if terminated or exam_due:", "if True:"),
           ("agent.replay(256)", "agent.replay(2048)"),
           ("self.fit(states, target_f)",
            "self.fit(states.reshape(-1, 32, 6), target_f.reshape(-1, 32, 3))"), NO_STOP]


def patched(patches):
    """The text of dqn.py with the patches."""
    text = (ROOT / "dqn.py").read_text()
    for old, new in patches:
        assert old in text, f"{old!r} is not in dqn.py"
        text = text.replace(old, new)
    return text


def numbers_in(stdout, name):
    """The numbers that follow `name: ` in what a run prints, with blanks between them."""
    return " ".join(re.findall(rf"{name}: (\d+)", stdout))


def train(patches, seed, episodes=1000):
    """Run the patched script: what it prints, its seconds, and the games won by its player."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "dqn.py").write_text(patched(patches))
        command, began = [sys.executable, "dqn.py", "--weights", "x"], time.time()
        run = subprocess.run([*command, "--seed", str(seed), "--episodes", str(episodes)],
                             cwd=folder, capture_output=True, text=True)
        seconds, player = time.time() - began, Path(folder, "x.weights.h5")
        assert numbers_in(run.stdout, "score"), run.stderr
        return run.stdout, seconds, won_of(agent_with(player), 100) if player.exists() else 0


def agent_with(weights):
    """An agent with the weights in a file, which does not explore."""
    agent = dqn.DQNAgent(dqn.gym.make("CartPole-v1"))
    agent.load(weights)
    return agent


def won_of(agent, games):
    """How many of so many new games the agent wins, the same ones for each agent."""
    envs = dqn.gym.make_vec("CartPole-v1", games)
    envs.reset(seed=10 ** 6)
    return dqn.sit_exam(agent, envs)


# The parts. Each returns the columns that follow the run's own arguments in its file

def seeds(seed):
    """dqn.py as it is; its exams, and how many of 100 new games its player wins."""
    stdout, seconds, won = train([], seed)
    return dict(solved="\nsolved after" in stdout, games=stdout.count("episode:"),
                exams=stdout.count("exam:"), seconds=round(seconds, 1), won=won)


def experiment(changed, seed):
    """A row of ROWS, without a stop; after how many games the memory holds no lost frame."""
    stdout, *_ = train(GO_ON + ROWS[changed][0], seed, 600)
    return dict(no_lost_frame=stdout.count("lost frames: 0\n"), scores=numbers_in(stdout, "score"))


def retrained(seed):
    """A solved player after 1 to 8 more replays: choices flipped of 2,000, and games won of 100."""
    stdout, *_ = train(RETRAIN, seed)
    return {name: numbers_in(stdout, name) for name in ("flipped", "won")}


def acrobot(seed):
    """Another environment, with a few edits, for 150 games."""
    stdout, *_ = train(ACROBOT, seed, 150)
    return dict(scores=numbers_in(stdout, "score"))


def shipped():
    """python dqn.py, which makes the player in save/; that player in 1,000 new games."""
    run = subprocess.run([sys.executable, "dqn.py"], capture_output=True, text=True, cwd=ROOT)
    return dict(won=won_of(agent_with(PLAYER), 1000), stdout=run.stdout)


PARTS = {  # part: the arguments of its runs
    seeds: [dict(seed=7000 + n) for n in range(100)],  # nothing was chosen on these
    experiment: [dict(changed=row, seed=6000 + n)
                 for row, (_, count) in ROWS.items() for n in range(count)],
    retrained: [dict(seed=6000 + n) for n in range(20)],
    shipped: [{}],
    acrobot: [dict(seed=6000 + n) for n in range(3)],
}


def read(part):
    """The lines of a part's file, dictionaries of strings; none if there is no file."""
    file = ROOT / f"tests/results/{part}.csv"
    return list(csv.DictReader(file.open())) if file.exists() else []


def complete(part):
    """Make the runs that are missing in the part's file, each in a new process, two at a time."""
    done = read(part.__name__)
    jobs = [job for job in PARTS[part] if not any(
        all(line[name] == str(job[name]) for name in job) for line in done)]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        runs = {pool.submit(part, **job): job for job in jobs}
        for run in concurrent.futures.as_completed(runs):
            line = {**runs[run], **run.result()}
            with (ROOT / f"tests/results/{part.__name__}.csv").open("a", newline="") as file:
                table = csv.DictWriter(file, line, lineterminator="\n")
                if file.tell() == 0:
                    table.writeheader()
                table.writerow(line)
            print(part.__name__, *runs[run].values(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    for part in PARTS:
        if part.__name__ in (sys.argv[1:] or [part.__name__]):
            complete(part)
