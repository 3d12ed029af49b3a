"""The training runs and measurements behind README.md. tests/pictures.py makes its tables of them.

    python tests/benchmark.py all               every part, some hours
    python tests/benchmark.py seeds shipped     only these

Each part writes a file of tests/results/. Single runs are kept in tests/runs/, under the code that
made them, so that a benchmark that was stopped goes on where it was. Two runs at a time, one thread
each; what is timed, in `peers` and `calls`, runs alone, on a machine that does nothing else.
`peers` needs `pip install stable-baselines3`, and tests/pictures.py needs scipy.
"""
import argparse
import ast
import concurrent.futures
import csv
import hashlib
import json
import multiprocessing
import os
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
    """dqn.py's agent with other numbers, another memory() or another optimizer()."""
    def __init__(self, env, **numbers):
        self.numbers = {name: n() if callable(n) else n for name, n in numbers.items()}
        super().__init__(env)

    def _build_model(self):
        vars(self).update(self.numbers)
        super()._build_model()
        if "optimizer" in self.numbers:
            self.model.compile(loss="mse", optimizer=self.optimizer)


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


def row(kind=Agent, env="CartPole-v1", numbers={}, **loop):
    """kind(env, **numbers) is trained by train(..., **loop)."""
    return dict(kind=kind, env=env, numbers=numbers, loop=loop)


POST = "the post"
ROWS = {
    "dqn.py": row(),
    # a departure undone: the post's value, or none
    "RMSprop .0001": row(numbers=dict(optimizer=lambda: RMSprop(1e-4))),
    "no clip": row(numbers=dict(optimizer=lambda: SGD(0.002))),
    "replay(32)": row(draw=32),
    "minibatches of 8": row(numbers=dict(minibatch_size=8)),
    "one replay": row(lost=1, numbers=dict(epsilon_decay=.995 ** 6)),
    "won as often as lost": row(won=6),
    "memory of everything": row(numbers=dict(memory=list)),
    "gamma .9": row(numbers=dict(gamma=0.9)),
    "targets move": row(MovingTargets),
    "each game anew": row(anew=True),
    "limit is a death": row(anew=True, limit_is_death=True),
    POST: row(MovingTargets, "CartPole-v0", lost=1, draw=32, anew=True, limit=200,
              limit_is_death=True, numbers=dict(optimizer=lambda: RMSprop(1e-4), minibatch_size=1,
                                                memory=list, gamma=0.9)),
    "standard DQN": row(StandardDQN),
    "search": row(Search, won=0),
    # an idea of the post removed
    "last game only": row(forgets=True),
    "no look ahead": row(numbers=dict(gamma=0.0)),
    "no punishment": row(NoPunishment),
    "no exploration": row(numbers=dict(epsilon=0.1)),
    # a control
    "shuffled": row(ShuffledTargets),
}


# One training run

def begin(seed, kind=Agent, env="CartPole-v1", numbers={}, **_):
    """The agent, with its environment, as dqn.py's main block makes them."""
    keras.utils.set_random_seed(seed)
    env = gym.make(env, max_episode_steps=5000)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    return kind(env, **numbers)


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


def exam_of(seed):
    """The exam of dqn.py --seed seed."""
    exam = gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)
    exam.reset(seed=seed + 1)
    return exam


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


# The runs: each is a function of a seed, in a process of its own, and gives what json can write

def fixed(name, seed):
    """600 games of a row without stopping."""
    return dict(scores=train(begin(seed, **ROWS[name]), 600, **ROWS[name]["loop"]))


def to_the_end(seed, past):
    """dqn.py as it is: until it is solved, at most 1,000 games; then so many games more."""
    agent, exam, told, stays = begin(seed), exam_of(seed), {"exams": 0}, []
    twenty = gym.make_vec("CartPole-v1", 20)
    twenty.reset(seed=5)

    def after(scores):
        if "games" in told:
            stays.append(passes(agent, twenty))
        elif at_the_bar(scores) and len(scores) % 10 == 0:
            told["exams"] += 1
            if passes(agent, exam):
                told.update(games=len(scores), frames=sum(scores), seconds=time.time() - BEGAN)
                told["weights"] = agent.weights
        return len(scores) == told.get("games", 1000 - past) + past

    scores = train(agent, 1000 + past, after)
    if "games" in told:
        player = agent_with(told.pop("weights"))
        told["short"], told["long"] = (fresh(player, 100, n)[0].tolist() for n in (500, 5000))
        told["noisy"] = fresh(player, 100, 500, exploring=0.1)[0].mean()
        if past:
            told.update(past=np.mean(scores[-past:]), stays=np.mean(stays))
    return dict(told, scores=scores)


def chances(first):
    """Of 100 untrained networks: is the exam passed, the mean score with a tenth at random."""
    exam, agent, found = exam_of(0), dqn.DQNAgent(None), []
    for network in range(first, first + 100):
        agent.weights = untrained(agent.weights, np.random.default_rng(network))
        noisy = fresh(agent, 100, 500, exploring=0.1, seed=network)[0].mean()
        found.append([network, passes(agent, exam), noisy])
    return found


def lucky(network):
    """An untrained network, after 10 games of which it only fills its memory, is trained on."""
    agent = begin(network, numbers=dict(epsilon=0.1))
    agent.model.set_weights(untrained(agent.weights, np.random.default_rng(network)))
    agent.weights = agent.model.get_weights()
    before = train(agent, 10, lost=0, won=0)
    old = np.concatenate([weight.ravel() for weight in agent.weights])
    agent.replay(2048)  # what is done after a won game
    new = np.concatenate([weight.ravel() for weight in agent.weights])
    moved = np.linalg.norm(new - old) / np.linalg.norm(old)
    return dict(before=np.mean(before), moved=float(moved), scores=train(agent, 100))


def first_pass(seed):
    """dqn.py's seconds to the peer's check; it is looked at each game, which is not counted."""
    agent, looking = begin(seed), 0.0
    twenty = gym.make_vec("CartPole-v1", 20, max_episode_steps=5000)
    twenty.reset(seed=5)

    def after(scores):
        nonlocal looking
        began = time.time()
        passed = passes(agent, twenty)
        looking += time.time() - began
        return passed

    scores = train(agent, 1000, after)
    return dict(scores=scores, seconds=time.time() - BEGAN - looking)


def whole_run(seed):
    """dqn.py as a user runs it: the seconds until its weights are on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        file, began = Path(folder, "solved.weights.h5"), time.time()
        process = subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", file, "--seed",
                                  str(seed)], capture_output=True, text=True)
        assert file.exists(), process.stderr
        return dict(scores=scores_in(process.stdout), seconds=file.stat().st_mtime - began)


def peer(seed, *look):
    return json.loads(subprocess.check_output(
        [sys.executable, ROOT / "tests/peer.py", str(seed), *look]))


def on_the_way(seed):
    """The networks of seed's games 5 (of seed 0), and 60, and how they do in 100 fresh games."""
    agent, found = begin(seed), []

    def after(scores):
        if len(scores) in (5, 60):
            found.append([len(scores), *(each.tolist() for each in fresh(agent, 100, 500))])
            if seed == 0:
                agent.save(RESULTS / f"after-{len(scores)}.weights.h5")
        return len(scores) == 60

    train(agent, 60, after)
    return found


def scores_in(stdout):
    return [int(line.split()[3][:-1]) for line in stdout.splitlines() if "score:" in line]


def code_of(source, names=None):
    """Python code, or that of some of its classes and functions, without comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) \
                and ast.get_docstring(node):
            node.body[0].value.value = ""
    return ast.unparse([node for node in tree.body
                        if not names or getattr(node, "name", None) in names])


CODE = (code_of((ROOT / "dqn.py").read_text(), ["DQNAgent", "play"])
        + code_of((ROOT / "tests/peer.py").read_text())
        + code_of(Path(__file__).read_text().partition("\n# The parts\n")[0]))
RUNS = ROOT / "tests/runs" / hashlib.sha256(CODE.encode()).hexdigest()[:12]


def path_of(function, *args):
    return RUNS / ("-".join([function.__name__, *map(str, args)]) + ".json")


def keep(function, *args):
    """What function(*args) gives, from the disk if it has once been run with this code."""
    path = path_of(function, *args)
    if not path.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(function(*args), default=float))
        part.replace(path)
    return json.loads(path.read_text())


def run(jobs, at_a_time=2):
    """The results of keep(*job) for all the jobs, each in a new process."""
    context, results = multiprocessing.get_context("spawn"), []
    with concurrent.futures.ProcessPoolExecutor(
            at_a_time, mp_context=context, max_tasks_per_child=1) as pool:
        for i, result in enumerate(pool.map(keep, *zip(*jobs))):
            results.append(result)
            print(f"{i + 1} of {len(jobs)}:", *jobs[i][1:], file=sys.stderr, flush=True)
    return results


# The parts

def write(name, rows):
    """Write rows, dictionaries with the same keys, as tests/results/name.csv."""
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def first_at(scores, bar=BAR):
    """The number of games after which the mean of the last 100 is at the bar; None: it never is."""
    return next((n for n in range(100, len(scores) + 1) if at_the_bar(scores[:n], bar)), None)


def seeds():
    past = {seed: 200 if seed in SEEDS[:20] else 0 for seed in SEEDS}
    rows = []
    for seed, told in zip(SEEDS, run([(to_the_end, seed, past[seed]) for seed in SEEDS])):
        short, long = told.get("short", [0]), told.get("long", [0])
        rows.append(dict(
            seed=seed, games=told.get("games"), frames=told.get("frames"), exams=told["exams"],
            seconds=told.get("seconds"), short_whole=short.count(500), short_worst=min(short),
            long_whole=long.count(5000), long_worst=min(long), noisy=told.get("noisy"),
            past=told.get("past"), stays=told.get("stays")))
    write("seeds", rows)


def experiment():
    """600 games of each row, departures first; what was run is written also if it is stopped."""
    names, rows, curves = list(ROWS), [], []
    jobs = [(fixed, name, seed) for part in (names[:15], names[15:]) for seed in SEEDS[:12]
            for name in part] + [(fixed, "dqn.py", seed) for seed in SEEDS[12:20]]
    try:
        run(jobs)
    finally:
        for _, name, seed in (job for job in jobs if path_of(*job).exists()):
            scores, bar = keep(fixed, name, seed)["scores"], gym.spec(
                ROWS[name]["env"]).reward_threshold
            rows.append(dict(row=name, seed=seed, games_to_bar=first_at(scores, bar),
                             score_later=np.mean(scores[400:])))
            if name in ("dqn.py", POST):
                curves.append(dict(row=name, seed=seed, scores=" ".join(map(str, scores))))
        write("experiment", rows)
        write("scores", curves)


def luck():
    """Untrained networks, and those of them that would reach the bar, trained on."""
    found = sum(run([(chances, first) for first in range(0, 2000, 100)]), [])
    names = "network", "passes_exam", "score"
    write("luck", [dict(zip(names, each)) for each in found])
    jobs = [(lucky, network) for network, _, score in found if score >= BAR]
    write("lucky", [dict(network=job[1], before=told["before"], moved=told["moved"],
                         after=np.mean(told["scores"]), lost=sum(s < 500 for s in told["scores"]))
                    for job, told in zip(jobs, run(jobs))])


def peers():
    rows = []
    for seed in range(2000, 2005):  # never tuned on; in turn, one at a time
        ours, = run([(whole_run, seed)], 1)
        alike, = run([(first_pass, seed)], 1)
        theirs, = run([(peer, seed, "look")], 1)
        rows.append(dict(
            seed=seed, seconds=ours["seconds"], games=len(ours["scores"]),
            frames=sum(ours["scores"]), pass_seconds=alike["seconds"],
            pass_frames=sum(alike["scores"]), peer_seconds=theirs["seconds"],
            peer_frames=theirs["frames"]))
    write("peers", rows)


def peers_long():
    """The peer's scores in 200,000 frames, four times the zoo's number."""
    jobs = [(peer, seed) for seed in range(2000, 2005)]
    write("peers-long", [dict(row="peer", seed=job[1], scores=" ".join(map(str, told["scores"])))
                         for job, told in zip(jobs, run(jobs))])


def milliseconds(call, repeat):
    call()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return float(np.median(took))


def calls():
    agent, random, n = dqn.DQNAgent(None), np.random.default_rng(0), 2048
    size, model = agent.minibatch_size, agent.model
    states = np.float32(random.normal(size=(n, 4)))
    state, targets = states[:1], agent.predict(states)
    began = time.perf_counter()
    agent.fit(states, targets)
    compiling = 1000 * (time.perf_counter() - began)
    for i in range(agent.memory.maxlen):
        i %= n
        agent.remember(states[i:i + 1], i % 2, 1.0, states[i:i + 1], False)
    exam, threads = exam_of(0), os.environ["OPENBLAS_NUM_THREADS"]
    found = {
        "predict one: model.predict": milliseconds(lambda: model.predict(state, verbose=0), 20),
        "predict one: agent.predict": milliseconds(lambda: agent.predict(state), 2000),
        "fit: model.fit": milliseconds(lambda: model.fit(
            states, targets, batch_size=size, shuffle=False, verbose=0), 10),
        "fit: model.train_on_batch": milliseconds(lambda: [model.train_on_batch(
            states[k:k + size], targets[k:k + size]) for k in range(0, n, size)], 10),
        "fit: agent.fit": milliseconds(lambda: agent.fit(states, targets), 50),
        "fit: the first call, which compiles": compiling,
        "replay": milliseconds(lambda: agent.replay(n), 50),
        "an exam that is passed": milliseconds(lambda: passes(agent_with(SOLUTION), exam), 3)}
    write("calls", [dict(call=call, ms=f"{ms:.3g}", threads=threads) for call, ms in found.items()])


def shipped():
    player, rows = agent_with(SOLUTION), []
    for games, limit, exploring in (1000, 500, 0), (100, 5000, 0), (100, 500, 0.1), (1000, 500, 1):
        scores, _ = fresh(player, games, limit, exploring)
        rows.append(dict(games=games, limit=limit, exploring=exploring, mean=scores.mean(),
                         worst=scores.min(), whole=(scores == limit).sum()))
    write("shipped", rows)
    told, = run([(whole_run, 0)], 1)
    write("default-run", [dict(row="seed 0", scores=" ".join(map(str, told["scores"])))])


def way():
    rows = []
    for seed, found in enumerate(run([(on_the_way, seed) for seed in range(10)])):
        for games, scores, places in found:
            left = np.abs(places) > 2.4
            rows.append(dict(seed=seed, games=games, score=np.mean(scores),
                             fell=sum((np.array(scores) < 500) & ~left), left_track=sum(left)))
    write("way", rows)


PARTS = {part.__name__: part for part in (
    seeds, peers, calls, shipped, way, luck, experiment, peers_long)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    chosen = parser.parse_args().parts
    for name, part in PARTS.items():
        if name in chosen or "all" in chosen:
            part()
