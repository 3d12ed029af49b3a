"""The training runs and measurements behind README.md. tests/pictures.py makes its tables of them.

    python tests/benchmark.py all               every part, about two hours
    python tests/benchmark.py seeds shipped     only these

Each part fills a file of tests/results/ with a row for each run, two runs at a time, one thread
each. A benchmark that was stopped goes on where it was; rows of older code are made anew. What is
timed (`race`, `calls`) runs alone, and wants a machine that does nothing else. `race` needs
`pip install stable-baselines3`, and tests/pictures.py needs scipy.
"""
import argparse
import ast
import concurrent.futures
import csv
import hashlib
import inspect
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BEGAN = time.time()
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import dqn  # noqa: E402  before NumPy: it sets the number of threads
import numpy as np  # noqa: E402
from dqn import gym, keras, tf  # noqa: E402
from keras.optimizers import SGD, RMSprop  # noqa: E402

SOLUTION = ROOT / "save/cartpole-dqn.weights.h5"
RESULTS = ROOT / "tests/results"
SEEDS = range(1400, 1500)  # of the report; tuned was on 0 to 159, and 1300 to 1306
BAR = gym.spec("CartPole-v1").reward_threshold


# What is varied: the agent's numbers, its optimizer, one of its methods

class Agent(dqn.DQNAgent):
    """dqn.py's agent with another optimizer or other numbers."""
    def __init__(self, env, optimizer=None, **numbers):
        super().__init__(env)
        vars(self).update(numbers)
        if optimizer:
            self.model.compile(loss="mse", optimizer=optimizer)


class MovingTargets(Agent):
    """As in the post, both columns of target_f are made anew for each gradient step."""
    def replay(self, batch_size):
        epsilon = self.epsilon
        for _ in range(batch_size // self.minibatch_size):
            self.epsilon = epsilon  # which decays once in all
            super().replay(self.minibatch_size)


class StandardDQN(Agent):
    """target stands still, as in dqn.py, but the other action's column is not trained at all."""
    def fit(self, state, target_f):
        self.fit_taken(state, np.where(target_f == self.predict(state), np.nan, target_f))

    @tf.function(jit_compile=True)
    def fit_taken(self, state, target_f):
        for i in tf.range(0, len(state), self.minibatch_size):
            rows = i + tf.range(self.minibatch_size)
            state_, target_f_ = tf.gather(state, rows), tf.gather(target_f, rows)
            now = self.model(state_)  # no error where the target is what the network says
            self.model.train_step((state_, tf.where(tf.math.is_nan(target_f_), now, target_f_)))


class NoPunishment(Agent):
    def remember(self, state, action, reward, next_state, done):
        super().remember(state, action, 1.0, next_state, done)


class ShuffledTargets(Agent):
    """Each state learns what was worked out for another one."""
    def fit(self, state, target_f):
        super().fit(state, np.random.permutation(target_f))


class Search(Agent):
    """No learning: where dqn.py would learn, a new network with random weights."""
    def fit(self, state, target_f):
        self.model.set_weights(untrained(self.weights))


def untrained(weights, random=np.random):
    """Weights as Keras draws them for a new network: Glorot's kernels, and biases of 0."""
    return [random.uniform(-1, 1, weight.shape).astype("float32")
            * np.sqrt(6 / sum(weight.shape)) * (weight.ndim > 1) for weight in weights]


def row(make=Agent, env="CartPole-v1", **loop):
    """make(environment) is trained by train(agent, 600, **loop)."""
    return dict(make=make, env=env, loop=loop)


POST = "*all of these: the post*"
ROWS = {
    "dqn.py as it is": row(),
    # a departure undone: the post's value, or none
    "`replay(32)`": row(draw=32),
    "steps of 8 frames instead of 64": row(lambda env: Agent(env, minibatch_size=8)),
    "one replay after each game": row(lambda env: Agent(env, epsilon_decay=.995 ** 6), lost=1),
    "six replays after a won game, too": row(won=6),
    "the post's learning rate, .0001": row(lambda env: Agent(env, RMSprop(1e-4))),
    "the targets move with each step": row(MovingTargets),
    "the clock is a loss": row(limit_is_death=True, anew=True),
    "each game begins anew": row(anew=True),
    "a memory of everything": row(lambda env: Agent(env, memory=[])),
    "`gamma` .9": row(lambda env: Agent(env, gamma=0.9)),
    POST: row(lambda env: MovingTargets(env, RMSprop(1e-4), minibatch_size=1, memory=[], gamma=0.9),
              "CartPole-v0", draw=32, lost=1, limit=200, limit_is_death=True, anew=True),
    # an idea of the post removed
    "the last game only, no older memories": row(forgets=True),
    "no future reward: `gamma` 0": row(lambda env: Agent(env, gamma=0.0)),
    "no punishment: reward 1 for dying": row(NoPunishment),
    "no exploring: `epsilon` .1 from the start": row(lambda env: Agent(env, epsilon=0.1)),
    # what others do
    "standard DQN: the other action is left alone": row(StandardDQN),
    "SGD(.002) with the gradient cut off at 1": row(lambda env: Agent(env, SGD(2e-3, clipvalue=1))),
    # a control
    "*no learning: targets shuffled*": row(ShuffledTargets),
    "*no learning: a new random network after each lost game*": row(Search, won=0),
}


# One training run

def begin(seed, make=Agent, env="CartPole-v1", **_):
    """The agent, with its environment, as dqn.py's main block makes them."""
    keras.utils.set_random_seed(seed)
    env = gym.make(env, max_episode_steps=5000)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    return make(env)


def train(agent, games, after=lambda scores: False, lost=6, won=1, draw=2048, forgets=False,
          anew=False, limit=500, limit_is_death=False):
    """dqn.py's loop without its end: the scores of so many games, fewer if after(scores) is true.

    after is called when a game has been played and before it is learnt from. forgets: the memory
    holds the last game only. anew: no game goes on in the next one.
    """
    scores = []
    while len(scores) < games:
        if forgets:
            agent.memory.clear()
        if anew or not scores or terminated or truncated:
            state, _ = agent.env.reset()
            state = np.reshape(state, [1, 4])
        for time_t in range(limit):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = agent.env.step(action)
            next_state = np.reshape(next_state, [1, 4])
            done = terminated or (limit_is_death and time_t == limit - 1)
            reward = -100 if done else reward
            agent.remember(state, action, reward, next_state, done)
            state = next_state
            if terminated or truncated:
                break
        scores.append(time_t + 1)
        if after(scores):
            break
        for _ in range(lost if terminated else won):
            agent.replay(draw)
    return scores


def at_the_bar(scores, bar=BAR):
    return len(scores) >= 100 and np.mean(scores[-100:]) >= bar


def first_at(scores, bar=BAR):
    """The number of games after which the mean of the last 100 is at the bar; None: it never is."""
    return next((n for n in range(100, len(scores) + 1) if at_the_bar(scores[:n], bar)), None)


def games_at_once(number, frames, seed):
    """number games of at most so many frames, which begin anew each time that they are played."""
    envs = gym.make_vec("CartPole-v1", number, max_episode_steps=frames)
    envs.reset(seed=seed)
    return envs


def passes(agent, exam):
    return max(dqn.play(agent, exam)) == exam.unwrapped.max_episode_steps


def agent_with(weights):
    """An agent with the weights in a file, or in a list."""
    agent = dqn.DQNAgent(None)
    if isinstance(weights, Path):
        agent.load(weights)
    else:
        agent.model.set_weights(weights)
        agent.weights = weights
    return agent


def fresh(agent, games, limit, exploring=0.0, seed=10 ** 6):
    """Scores of games that nobody has seen, and where the carts were at their ends: (games,) each.

    exploring: the share of random pushes. The games of one seed are the same for all agents. A cart
    at more than 2.4 or less than -2.4 has left the track.
    """
    random = np.random.default_rng(seed)
    envs = gym.make_vec("CartPole-v1", games, max_episode_steps=limit)
    state, _ = envs.reset(seed=seed + limit)
    scores, places, playing = np.zeros(games, int), np.zeros(games), np.ones(games, bool)
    while playing.any():
        action = np.argmax(agent.predict(state), axis=1)
        pushes = random.integers(2, size=games)
        action = np.where(random.random(games) < exploring, pushes, action)
        state, _, terminated, truncated, _ = envs.step(action)
        scores += playing
        places = np.where(playing, state[:, 0], places)
        playing &= ~(terminated | truncated)
    return scores, places


# The parts: each is a function of its run's arguments, and gives the other columns of a row

def experiment(changed, seed):
    """600 games of a row of ROWS without stopping. curve: the mean scores of each 20 games."""
    return without_stopping(ROWS[changed], seed)


def rates(rate, seed):
    """The same with RMSprop at another rate."""
    return without_stopping(row(lambda env: Agent(env, RMSprop(rate))), seed)


def without_stopping(settings, seed):
    scores = train(begin(seed, **settings), 600, **settings["loop"])
    bar = gym.spec(settings["env"]).reward_threshold
    curve = " ".join(f"{mean:.0f}" for mean in np.reshape(scores, (30, 20)).mean(axis=1))
    return dict(games_to_bar=first_at(scores, bar), later=np.mean(scores[400:]), curve=curve)


def seeds(seed):
    """dqn.py as it is, until it is solved, at most 1,000 games. With some seeds 200 games more.

    Then the player in 100 games of 500 frames (short), of 5,000 (long), and of 500 with a tenth of
    the pushes random (noisy). stays: the share of the games past the end before which 20 games
    without exploring all last 500 frames.
    """
    agent, exam, twenty = begin(seed), games_at_once(200, 5000, seed + 1), games_at_once(20, 500, 5)
    more, sat, solved, stays = 200 if seed in SEEDS[:20] else 0, 0, {}, []

    def after(scores):
        nonlocal sat
        if solved:
            stays.append(passes(agent, twenty))
        elif at_the_bar(scores) and len(scores) % 10 == 0:
            sat += 1
            if passes(agent, exam):
                solved.update(games=len(scores), frames=sum(scores), seconds=time.time() - BEGAN,
                              weights=agent.weights)
        return len(scores) == solved.get("games", 1000 - more) + more

    scores = train(agent, 1000 + more, after)
    player = agent_with(solved.pop("weights", agent.weights))
    short, long = (fresh(player, 100, limit)[0] for limit in (500, 5000))
    return dict(
        dict(games=None, frames=None, seconds=None) | solved, exams=sat,
        short_whole=(short == 500).sum(), short_worst=short.min(),
        long_whole=(long == 5000).sum(), long_worst=long.min(),
        noisy=fresh(player, 100, 500, exploring=0.1)[0].mean(),
        past=np.mean(scores[-200:]) if stays else None, stays=np.mean(stays) if stays else None)


def exams(changed, seed):
    """A row of ROWS until it passes the exam, in at most 1,000 games; the exams that it sits."""
    settings, exam, passed = ROWS[changed], games_at_once(200, 5000, seed + 1), []
    agent = begin(seed, **settings)

    def after(scores):
        if at_the_bar(scores) and len(scores) % 10 == 0:
            passed.append(passes(agent, exam))
        return any(passed)

    scores = train(agent, 1000, after, **settings["loop"])
    return dict(games=len(scores), exams=len(passed), passed=any(passed))


def longer(seed):
    """3,000 games of the post: the best mean of 100 games in a row, and the last one."""
    settings = ROWS[POST]
    scores = train(begin(seed, **settings), 3000, **settings["loop"])
    return dict(best=max(np.convolve(scores, np.full(100, 0.01), "valid")),
                last=np.mean(scores[-100:]))


def luck(hundred):
    """Of 100 untrained networks: which pass the exam; which would reach the bar as they are.

    That is, which of them have a mean of 475 in 100 games with a tenth of the pushes random.
    """
    agent, exam, passing, lucky = dqn.DQNAgent(None), games_at_once(200, 5000, 1), [], []
    for network in range(100 * hundred, 100 * hundred + 100):
        agent.weights = untrained(agent.weights, np.random.default_rng(network))
        if passes(agent, exam):
            passing.append(network)
        if fresh(agent, 100, 500, exploring=0.1, seed=network)[0].mean() >= BAR:
            lucky.append(network)
    return {"passing": " ".join(map(str, passing)), "lucky": " ".join(map(str, lucky))}


def lucky(network):
    """A lucky network plays 100 games untrained, and is then trained in 100 more."""
    agent = begin(network, lambda env: Agent(env, epsilon=0.1))
    agent.model.set_weights(untrained(agent.weights, np.random.default_rng(network)))
    agent.weights = agent.model.get_weights()
    before = train(agent, 100, lost=0, won=0)
    old = np.concatenate([weight.ravel() for weight in agent.weights])
    agent.replay(2048)  # what is done after a won game
    new = np.concatenate([weight.ravel() for weight in agent.weights])
    return dict(before=np.mean(before), after=np.mean(train(agent, 100)),
                moved=np.linalg.norm(new - old) / np.linalg.norm(old))


def way(seed, games):
    """A network on the way: its mean score without exploring, and how its 100 games are lost."""
    agent, found = begin(seed), {}

    def after(scores):  # before the last game is learnt from
        if len(scores) == games:
            scores, places = fresh(agent, 100, 500)
            left = np.abs(places) > 2.4
            found.update(score=scores.mean(), fell=((scores < 500) & ~left).sum(), left=left.sum())
            if seed == 0:
                agent.save(RESULTS / f"after-{games}.weights.h5")

    train(agent, games, after)
    return found


def shipped(games, limit, exploring):
    scores, _ = fresh(agent_with(SOLUTION), games, limit, exploring)
    return dict(mean=scores.mean(), worst=scores.min(), whole=(scores == limit).sum())


def whole_run(seed):
    """dqn.py as a user runs it: the seconds until its weights are on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        file, began = Path(folder, "solved.weights.h5"), time.time()
        process = subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", file, "--seed",
                                  str(seed)], capture_output=True, text=True)
        assert file.exists(), process.stderr
        scores = scores_in(process.stdout)
        return dict(seconds=file.stat().st_mtime - began, frames=sum(scores),
                    scores=" ".join(map(str, scores)))


def race(who, seed):
    """Seconds and frames until dqn.py is solved; until it passes the peer's check; the peer's.

    The check is 20 games of 5,000 frames without exploring. Its own seconds are not counted.
    """
    if who == "solved":
        return {key: value for key, value in whole_run(seed).items() if key != "scores"}
    if who == "peer":
        return json.loads(subprocess.check_output(
            [sys.executable, ROOT / "tests/peer.py", str(seed)]))
    agent, twenty, looking = begin(seed), games_at_once(20, 5000, 5), 0.0

    def after(scores):
        nonlocal looking
        began = time.time()
        passed = passes(agent, twenty)
        looking += time.time() - began
        return passed

    scores = train(agent, 1000, after)
    return dict(seconds=time.time() - BEGAN - looking, frames=sum(scores))


def scores_in(stdout):
    return [int(line.split()[3][:-1]) for line in stdout.splitlines() if "score:" in line]


def calls():
    """Milliseconds, the median of 20 calls; fit's are for 2,048 states."""
    agent, random = dqn.DQNAgent(None), np.random.default_rng(0)
    states = np.float32(random.normal(size=(2048, 4)))
    targets = agent.predict(states)

    def milliseconds(call, *args, **options):
        took = []
        for _ in range(21):
            began = time.perf_counter()
            call(*args, **options)
            took.append(1000 * (time.perf_counter() - began))
        return float(f"{np.median(took[1:]):.2g}")  # the first call may compile

    return {
        "model.predict": milliseconds(agent.model.predict, states[:1], verbose=0),
        "agent.predict": milliseconds(agent.predict, states[:1]),
        "model.fit": milliseconds(agent.model.fit, states, targets, verbose=0, shuffle=False,
                                  batch_size=agent.minibatch_size),
        "agent.fit": milliseconds(agent.fit, states, targets)}


# The files

def code_of(part):
    """A hash of the code that a part may run: without comments, and without the other parts."""
    def code(path):
        tree = ast.parse(path.read_text().partition("\n# The files\n")[0])
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) \
                    and ast.get_docstring(node):
                node.body[0].value.value = ""
        return tree

    agent = "__init__", "_build_model", "remember", "act", "replay", "predict", "fit", "play"
    used = inspect.getsource(part)
    others = [each.__name__ for each in PARTS if f"{each.__name__}(" not in used]
    nodes = [node for node in ast.walk(code(ROOT / "dqn.py")) if getattr(node, "name", 0) in agent]
    nodes += code(ROOT / "tests/peer.py").body + [
        node for node in code(Path(__file__)).body if getattr(node, "name", 0) not in others]
    return hashlib.sha256(ast.unparse(nodes).encode()).hexdigest()[:8]


def read(name):
    """The rows of tests/results/name.csv, dictionaries of strings; none if there is no file."""
    file = RESULTS / f"{name}.csv"
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def complete(part, jobs, at_a_time=2):
    """Complete the part's file: a row for each of the jobs, which are its arguments.

    Each job runs in a new process. The rows that this code made before are kept.
    """
    code, names = code_of(part), list(inspect.signature(part).parameters)
    rows = {tuple(row[name] for name in names): row for row in read(part.__name__)
            if row["code"] == code}
    wanted = {tuple(map(str, job)): job for job in jobs}
    pool = concurrent.futures.ProcessPoolExecutor(
        at_a_time, multiprocessing.get_context("spawn"), max_tasks_per_child=1)
    runs = {pool.submit(part, *job): key for key, job in wanted.items() if key not in rows}
    try:
        for run in concurrent.futures.as_completed(runs):
            key = runs[run]
            rows[key] = dict(zip(names, key), **run.result(), code=code)
            print(part.__name__, *key, file=sys.stderr, flush=True)
            with open(RESULTS / f"{part.__name__}.csv", "w", newline="") as file:
                table = csv.DictWriter(file, rows[key], lineterminator="\n")
                table.writeheader()
                table.writerows(rows[key] for key in wanted if key in rows)
    finally:
        pool.shutdown(cancel_futures=True)


PARTS = {
    seeds: lambda: [(seed,) for seed in SEEDS],
    experiment: lambda: [(changed, seed) for seed in SEEDS[:20] for changed in list(ROWS)[
        :None if seed in SEEDS[:12] else 1]],
    rates: lambda: [(rate, seed) for rate in (5e-5, 1e-4, 2e-4, 4e-4, 8e-4) for seed in range(6)],
    exams: lambda: [(changed, seed) for changed in (
        "each game begins anew", "*no learning: a new random network after each lost game*")
        for seed in SEEDS[:20]],
    longer: lambda: [(seed,) for seed in SEEDS[:4]],
    luck: lambda: [(hundred,) for hundred in range(20)],
    lucky: lambda: [(int(network),) for row in read("luck") for network in row["lucky"].split()],
    way: lambda: [(seed, games) for seed in range(10) for games in (5, 60)],
    shipped: lambda: [(1000, 500, 0), (100, 5000, 0), (100, 500, 0.1), (1000, 500, 1)],
    # alone, seeds that nothing was tuned on
    race: lambda: [(who, seed) for seed in range(2000, 2005) for who in (
        "solved", "first pass", "peer")],
    whole_run: lambda: [(0,)],
    calls: lambda: [()],
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*(p.__name__ for p in PARTS), "all"])
    chosen = parser.parse_args().parts
    for part, jobs in PARTS.items():
        if part.__name__ in chosen or "all" in chosen:
            complete(part, jobs(), at_a_time=1 if part in (race, whole_run, calls) else 2)
