"""The figures and pictures behind README.md. Each part writes its own section of tests/RESULTS.md.

    python tests/benchmark.py all              every part, less than two hours
    python tests/benchmark.py seeds shipped    only these

Training runs are kept in tests/runs/, in a folder for each version of dqn.py, so that a benchmark
that was stopped goes on where it was. Two runs at a time, one thread each; the timed ones, `peer`
and `calls`, alone, and they want a machine that does nothing else. `peer`, and with it `pictures`,
needs `pip install stable-baselines3`.
"""
import argparse
import ast
import concurrent.futures
import copy
import datetime
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BEGAN = time.time()
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import dqn  # noqa: E402  before NumPy: it sets the number of threads
import numpy as np  # noqa: E402
from dqn import gym, keras, tf  # noqa: E402

SCRIPT = (ROOT / "dqn.py").read_text()
SOLUTION = ROOT / "save/cartpole-dqn.weights.h5"
PROGRAM = ast.unparse(ast.parse(SCRIPT)).encode()  # no comments
RUNS = ROOT / "tests/runs" / hashlib.sha256(PROGRAM).hexdigest()[:12]
SEEDS = range(1200, 1300)  # of the report; tuned was on 0 to 19
BAR = int(gym.spec("CartPole-v1").reward_threshold)
POST = "all of these: the post's settings"


# What is varied: the agent's numbers, one of its methods, or the game

class Agent(dqn.DQNAgent):
    """dqn.py's agent; numbers: values other than those that __init__ gives."""
    numbers = {}

    def _build_model(self):
        vars(self).update(copy.deepcopy(self.numbers))
        super()._build_model()


class MovingTargets(Agent):
    """As in the post: both columns of target_f from the network as it is at each gradient step."""
    def replay(self, batch_size):
        batches = [self.memory[i] for i in np.random.choice(len(self.memory), batch_size)]
        self.fit(*map(np.squeeze, zip(*batches)))
        self.weights = self.model.get_weights()
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    def fit(self, *memories):
        for rows in tf.reshape(tf.range(len(memories[0])), (-1, self.minibatch_size)):
            state, action, reward, next_state, done = (tf.gather(each, rows) for each in memories)
            future = self.gamma * tf.reduce_max(self.model(next_state), axis=1)
            target = tf.cast(reward, "float32") + tf.where(done, 0.0, future)
            taken = tf.one_hot(action, 2, on_value=True, off_value=False, dtype=tf.bool)
            target_f = tf.where(taken, target[:, None], self.model(state))
            self.model.train_step((state, target_f))


class StandardDQN(Agent):
    """target stands still, as in dqn.py, but the other action's column is not trained at all."""
    def _build_model(self):
        super()._build_model()
        fit = self.fit
        self.fit = lambda state, target_f: fit(
            state, np.where(target_f == self.predict(state), np.nan, target_f))

    def fit(self, state, target_f):
        for rows in tf.reshape(tf.range(len(state)), (-1, self.minibatch_size)):
            state_, target_f_ = tf.gather(state, rows), tf.gather(target_f, rows)
            now = self.model(state_)  # no error where the target is what the network says
            self.model.train_step((state_, tf.where(tf.math.is_nan(target_f_), now, target_f_)))


class NoPunishment(Agent):
    def remember(self, state, action, reward, next_state, done):
        super().remember(state, action, 1.0, next_state, done)


class ShuffledTargets(Agent):
    """Each state learns what was worked out for another one."""
    def _build_model(self):
        super()._build_model()
        fit = self.fit
        self.fit = lambda state, target_f: fit(state, np.random.permutation(target_f))


class RandomNetwork(Agent):
    """Instead of learning, a new network with random weights of the same kind."""
    def replay(self, batch_size):
        self.weights = untrained(self.weights)
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay


class TimeLimitIsDeath(gym.Wrapper):
    def step(self, action):
        state, reward, terminated, truncated, info = self.env.step(action)
        return state, reward, terminated or truncated, False, info


def untrained(weights, random=np.random):
    """Weights as Keras draws them for a new network: Glorot's kernels, and biases of 0."""
    return [random.uniform(-1, 1, weight.shape).astype("float32")
            * np.sqrt(6 / sum(weight.shape)) * (weight.ndim > 1) for weight in weights]


def variant(kind=Agent, env="CartPole-v1", wrapper=None, replays=4, draw=2048, forgets=False,
            **numbers):
    return dict(kind=kind, env=env, wrapper=wrapper, numbers=numbers,
                settings=dict(replays=replays, draw=draw, forgets=forgets))


ROWS = {
    "dqn.py": variant(),
    # a departure undone: the post's value instead
    "learning rate .0001": variant(learning_rate=0.0001),
    "32 memories a replay, one by one": variant(draw=32, minibatch_size=1),
    "one replay a game": variant(replays=1),
    "memory of everything": variant(memory=[]),
    "RMSprop's epsilon 1e-7": variant(rmsprop_epsilon=1e-7),
    "gamma .9": variant(gamma=0.9),
    "both targets move": variant(MovingTargets),
    "the time limit is a death": variant(wrapper=TimeLimitIsDeath),
    "CartPole-v0 (bar: 195 of 200)": variant(env="CartPole-v0"),
    POST: variant(MovingTargets, "CartPole-v0", TimeLimitIsDeath, 1, 32, learning_rate=0.0001,
                  minibatch_size=1, memory=[], rmsprop_epsilon=1e-7, gamma=0.9),
    # an idea of the post removed, and controls
    "standard DQN: the other column is not trained": variant(StandardDQN),
    "no memory: learns from the last game only": variant(forgets=True),
    "no punishment: 1 for the last frame, too": variant(NoPunishment),
    "no bootstrapping: target = reward": variant(gamma=0.0),
    "no exploration: epsilon .1 from the start": variant(epsilon=0.1),
    "control: targets shuffled": variant(ShuffledTargets),
    "control: a new random network after each game": variant(RandomNetwork),
}
FEWER = {name: SEEDS[:6] for name in ROWS if name != "dqn.py"}


# One training run

def begin(seed, kind=Agent, env="CartPole-v1", wrapper=None, numbers={}, **_):
    """The agent, with its environment, as dqn.py's main block makes them."""
    keras.utils.set_random_seed(seed)
    env = gym.make(env)
    env = wrapper(env) if wrapper else env
    env.reset(seed=seed)
    env.action_space.seed(seed)
    kind.numbers = numbers
    return kind(env)


def train(agent, games, after=lambda scores: False, replays=4, draw=2048, forgets=False):
    """dqn.py's loop without its end: the scores of so many games, fewer if after(scores) is true.

    after is called when a game has been played and before it is learnt from. forgets: the memory
    holds the last game only.
    """
    scores = []
    while len(scores) < games:
        if forgets:
            agent.memory.clear()
        state, _ = agent.env.reset()
        state = np.reshape(state, [1, 4])
        for time_t in range(5000):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = agent.env.step(action)
            next_state = np.reshape(next_state, [1, 4])
            reward = -100 if terminated else reward
            agent.remember(state, action, reward, next_state, terminated)
            state = next_state
            if terminated or truncated:
                break
        scores.append(time_t + 1)
        if after(scores):
            break
        for _ in range(replays):
            agent.replay(draw)
    return scores


def exam_of(seed):
    """The exam of dqn.py --seed seed."""
    exam = gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)
    exam.reset(seed=seed + 1)
    return exam


def agent_with(weights):
    """An agent with the weights in a file, or in a list."""
    agent = dqn.DQNAgent(None)
    if isinstance(weights, Path):
        with dqn.quiet_stderr():
            agent.model.load_weights(weights)
    else:
        agent.model.set_weights(weights)
    agent.weights = agent.model.get_weights()
    return agent


def fresh(weights, games, limit, exploring=0.0):
    """Scores of games that nobody has seen, and where the carts were at their ends: (games,) each.

    weights: as for agent_with; exploring: the share of random pushes. The games are the same for
    all weights. A cart at more than 2.4 or less than -2.4 has left the track.
    """
    random = np.random.default_rng(games)
    return play_all(agent_with(weights), games, limit, 10 ** 6 + limit, exploring, random)


def play_all(agent, games, limit, seed, exploring, random):
    """fresh, with an agent, the seed of the games, and the generator of its random pushes."""
    envs = gym.make_vec("CartPole-v1", games, max_episode_steps=limit)
    state, _ = envs.reset(seed=seed)
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

def fixed(row, seed):
    """600 games without stopping."""
    return dict(scores=train(begin(seed, **ROWS[row]), 600, **ROWS[row]["settings"]))


def to_the_end(seed, past):
    """dqn.py as it is: until it is solved, at most 1,000 games; then so many games more."""
    agent, exam, told, stays = begin(seed), exam_of(seed), {}, []
    twenty = gym.make_vec("CartPole-v1", 20)
    twenty.reset(seed=5)

    def after(scores):
        if "games" in told:
            stays.append(dqn.play(agent, twenty) == 500)
        elif len(scores) >= 100 and np.mean(scores[-100:]) >= BAR:
            told["exams"] = told.get("exams", 0) + 1
            if dqn.play(agent, exam) == 5000:
                told.update(games=len(scores), frames=sum(scores), seconds=time.time() - BEGAN)
                told["weights"] = agent.weights
        return len(scores) == told.get("games", 1000 - past) + past

    scores = train(agent, 1000 + past, after)
    if "games" in told:
        weights = told.pop("weights")
        told["short"], told["long"] = (fresh(weights, 100, n)[0].tolist() for n in (500, 5000))
        if past:
            told.update(past=np.mean(scores[-past:]), stays=np.mean(stays))
    return dict(told, scores=scores)


def peer_run(seed, *look):
    output = subprocess.check_output([sys.executable, ROOT / "tests/peer.py", str(seed), *look])
    return json.loads(output)


def our_run(seed):
    """Run dqn.py as a user does: the seconds until its weights are on the disk, and its frames."""
    with tempfile.TemporaryDirectory() as folder:
        file, began = Path(folder, "solved.weights.h5"), time.time()
        process = subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", file, "--seed",
                                  str(seed)], capture_output=True, text=True)
        scores = [int(line.split()[3][:-1]) for line in process.stdout.splitlines()[:-1]]
        assert file.exists(), process.stderr
        return dict(scores=scores, seconds=file.stat().st_mtime - began)


def keep(function, *args):
    """What function(*args) gives, from the disk if it has once been run with this dqn.py."""
    name = "-".join(map(str, [function.__name__, *args]))
    path = RUNS / ("".join(c if c.isalnum() or c == "-" else "_" for c in name) + ".json")
    if not path.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_text(json.dumps(function(*args)))
        path.with_suffix(".part").replace(path)
    return json.loads(path.read_text())


def two_at_a_time(jobs):
    """The results of keep(*job) for all the jobs; a process for each."""
    context, results = multiprocessing.get_context("spawn"), []
    with concurrent.futures.ProcessPoolExecutor(
            2, mp_context=context, max_tasks_per_child=1) as pool:
        for i, result in enumerate(pool.map(keep, *zip(*jobs))):
            results.append(result)
            print(f"{i + 1} of {len(jobs)}:", *jobs[i][1:], file=sys.stderr, flush=True)
    return results


# The sections of RESULTS.md

def middle(values, digits=0):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def quartiles(values, digits=0):
    low, mid, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{mid:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(*rows):
    rows = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([rows[0], "|" + " --- |" * (rows[0].count("|") - 1), *rows[1:]])


def means(scores):
    """After each game the mean of the last 100; before there are 100, of those there are."""
    return [np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))]


def first_at(scores, bar):
    """The number of games after which the mean of the last 100 is at the bar; inf: it never is."""
    return next((e + 1 for e, m in enumerate(means(scores)) if e >= 99 and m >= bar), np.inf)


def interval(differences):
    """The 95 % interval of the mean, by 10,000 bootstrap samples of the seeds."""
    draws = np.random.default_rng(0).choice(differences, (10_000, len(differences)))
    low, high = np.quantile(draws.mean(axis=1), [0.025, 0.975])
    return f"{np.mean(differences):+.0f} ({low:+.0f} to {high:+.0f})"


def experiment():
    """600 games of each row of ROWS; the seeds in turn, so that a part of it is fair, too."""
    todo = [(fixed, row, seed) for seed in SEEDS[:20] for row in ROWS
            if seed in FEWER.get(row, SEEDS[:20])]
    runs = {(row, seed): run["scores"]
            for (_, row, seed), run in zip(todo, two_at_a_time(todo))}
    late = {key: np.mean(scores[400:600]) for key, scores in runs.items()}
    rows = [["undone or varied", f"reach a mean of {BAR}", "after games: median of all seeds",
             "mean training score of games 401-600: median (quartiles)",
             "less than dqn.py's on the same seeds (95 % interval of the mean)"]]
    for row in ROWS:
        seeds = [seed for name, seed in runs if name == row]
        bar = gym.spec(ROWS[row]["env"]).reward_threshold
        games = [first_at(runs[row, seed], bar) for seed in seeds]
        less = [late["dqn.py", seed] - late[row, seed] for seed in seeds]
        rows.append([row, f"{np.isfinite(games).sum()} of {len(seeds)}",
                     "never" if np.isinf(median(games)) else f"{median(games):.0f}",
                     quartiles([late[row, seed] for seed in seeds]),
                     "" if row == "dqn.py" or bar != BAR else interval(less)])
    return f"""\
600 games, without stopping, on seeds from {SEEDS[0]} on that nothing was tuned on. A seed that
does not reach the bar within 600 games counts as later than all others in the median. The bar is
Gym's, exploration included; there is no exam here. The training score is a mean over 200 games, a
tenth of their pushes random (or what epsilon then is).

""" + table(*rows)


def seeds():
    runs = (two_at_a_time([(to_the_end, seed, 200) for seed in SEEDS[:10]])
            + two_at_a_time([(to_the_end, seed, 0) for seed in SEEDS[10:]]))
    good = [run for run in runs if "games" in run]
    games, frames, seconds = ([run[key] for run in good] for key in ("games", "frames", "seconds"))
    past, stays = ([run[key] for run in good if key in run] for key in ("past", "stays"))
    rows = [[seed, *([run["games"], run["frames"], f"{run['seconds']:.1f}", run["exams"],
                      f"{np.mean(run['short']):.1f}, {min(run['short'])}",
                      f"{run['long'].count(5000)}, {min(run['long'])}",
                      *([f"{run['past']:.1f}", f"{run['stays']:.2f}"] if "past" in run else
                        ["", ""])] if "games" in run else ["not solved"] + [""] * 7)]
            for seed, run in zip(SEEDS, runs)]
    return f"""\
dqn.py as it is, on seeds that nothing was tuned on: the training games until Gym's bar is reached
and the exam of 200 games of 5,000 frames passed. {len(good)} of {len(runs)} seeds are solved within
1,000 games, {sum(game <= 600 for game in games)} within 600: after {middle(games)} games,
{middle(frames)} frames, {middle(seconds, 1)} seconds since the process began (median and range; two
runs at a time). {sum(min(run["long"]) == 5000 for run in good)} of the networks last 5,000 frames
in each of 100 fresh games without exploring, {sum(min(run["short"]) == 500 for run in good)} last
500 in each of 100 others. The fresh games are the same for every network.

{len(past)} of these seeds were trained for 200 games more. The mean training score of these games:
{quartiles(past, 1)} (median and quartiles), worst {min(past):.1f}, {sum(p >= BAR for p in past)}
seeds at {BAR} or more. *stays*, the share of these games before which 20 games without exploring
all last 500 frames: {quartiles(stays, 2)}, worst {min(stays):.2f}, mean {np.mean(stays):.2f}.

""" + table(["seed", "games", "frames", "seconds", "exams", "500 frames: mean, worst of 100",
             "5,000 frames: whole of 100, worst", "200 more: score", "stays"], *rows)


def luck():
    """Untrained networks: the exam, and Gym's bar, were they let alone for 100 games."""
    random, exam = np.random.default_rng(0), exam_of(0)
    agent, passed, frozen = dqn.DQNAgent(None), 0, 0
    for seed in range(2000):
        agent.weights = untrained(agent.weights, random)
        passed += dqn.play(agent, exam) == 5000
        frozen += play_all(agent, 100, 500, seed, 0.1, random)[0].mean() >= BAR
    control = "control: a new random network after each game"
    best = [max(means(keep(fixed, control, seed)["scores"])[99:]) for seed in FEWER[control]]
    return f"""\
Of 2,000 untrained networks {passed} pass the exam, the 200 games of 5,000 frames, alone; {frozen}
would reach Gym's bar if they stayed as they are for 100 games with a tenth of the pushes random. In
dqn.py no network stays as it is, for each game is learnt from. With a new random network after each
game the best mean of 100 games, of 600, is {max(best):.0f} over {len(best)} seeds.
"""


def peer():
    seeds, rows, ratios = range(5), [], []
    long = two_at_a_time([(peer_run, seed) for seed in seeds])
    for seed, run in zip(seeds, long):
        ours, theirs = keep(our_run, seed), keep(peer_run, seed, "look")
        ratios.append(ours["seconds"] / theirs["seconds"])
        best, bar = max(means(run["scores"])[99:]), first_at(run["scores"], BAR)
        rows.append([seed, f"{ours['seconds']:.1f}", len(ours["scores"]), sum(ours["scores"]),
                     f"{theirs['seconds']:.1f}", theirs["frames"],
                     f"{ratios[-1]:.2f}", "never" if np.isinf(bar) else bar, f"{best:.0f}",
                     len(run["scores"])])
    ours, theirs = ([float(row[i]) for row in rows] for i in (1, 4))
    return f"""\
Stable-Baselines3 {importlib.metadata.version("stable-baselines3")}'s DQN with the CartPole settings
of its zoo (tests/peer.py). First pass: seconds from the start of the process, one process and one
thread at a time, in turn with dqn.py, until 20 games without exploring last 5,000 frames each. It
is looked at every 1,000 frames, and the looking is not counted. dqn.py: seconds until its weights
are on the disk, Gym's bar and the exam passed, both counted. 200,000 frames: four times the number
that the zoo trains for; the best mean of 100 training games in a row, and whether it reaches the
bar.

What is unlike: its epsilon ends at .04, ours at .1; its settings were tuned for 50,000 frames and
for games without exploring, not for this bar.

Medians: {median(ours):.1f} and {median(theirs):.1f} seconds; of the ratios: {middle(ratios, 2)}.

""" + table(["seed", "dqn.py: seconds", "games", "frames", "the peer, first pass: seconds",
             "frames", "ratio", "200,000 frames: games to the bar", "best mean", "games"], *rows)


def milliseconds(call, repeat):
    call()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return f"{median(took):.3g}"


def calls():
    agent, random = dqn.DQNAgent(None), np.random.default_rng(0)
    size, model = agent.minibatch_size, agent.model
    n = int(SCRIPT.partition("agent.replay(")[2].split(")")[0])
    states = np.float32(random.normal(size=(n, 4)))
    state, targets = states[:1], agent.predict(states)
    began = time.perf_counter()
    agent.fit(states, targets)
    compiling = 1000 * (time.perf_counter() - began)
    plain, single = tf.function(type(agent).fit), dqn.DQNAgent(None)
    single.minibatch_size = 1
    starts = range(0, n, size)
    for i in range(agent.memory.maxlen):
        action = np.int64(random.integers(2))
        agent.remember(states[i % n:i % n + 1], action, 1.0, states[i % n:i % n + 1], False)
    games = gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)

    def exam():
        state, _ = games.reset(seed=0)
        for _ in range(5000):
            state, *_ = games.step(np.argmax(agent.predict(state), axis=1))

    one, all_of = "the values of one state: ", f"a fit of {n} states in minibatches of {size}: "
    return "Milliseconds, median.\n\n" + table(
        ["call", "ms"],
        [one + "model.predict, as in the post",
         milliseconds(lambda: model.predict(state, verbose=0), 20)],
        [one + "model.predict_on_batch", milliseconds(lambda: model.predict_on_batch(state), 200)],
        [one + "agent.predict, in NumPy", milliseconds(lambda: agent.predict(state), 2000)],
        [all_of + "model.fit", milliseconds(
            lambda: model.fit(states, targets, batch_size=size, shuffle=False, verbose=0), 10)],
        [all_of + "model.train_on_batch", milliseconds(
            lambda: [model.train_on_batch(states[k:k + size], targets[k:k + size])
                     for k in starts], 10)],
        [all_of + "agent.fit without XLA", milliseconds(
            lambda: plain(agent, states, targets), 50)],
        [all_of + "agent.fit", milliseconds(lambda: agent.fit(states, targets), 50)],
        ["the same in minibatches of 1", milliseconds(lambda: single.fit(states, targets), 10)],
        ["the first call of agent.fit, which compiles", f"{compiling:.3g}"],
        [f"agent.replay({n}), a full memory", milliseconds(lambda: agent.replay(n), 50)],
        ["an exam that is passed", milliseconds(exam, 3)])


def shipped():
    (short, _), (long, _) = fresh(SOLUTION, 1000, 500), fresh(SOLUTION, 100, 5000)
    (noisy, _), (chance, _) = fresh(SOLUTION, 100, 500, 0.1), fresh(SOLUTION, 1000, 500, 1.0)
    return """\
The weights in save/, without exploring, in games that neither the training nor its exam has seen.

""" + table(
        ["games", "frames at most", "mean", "worst", "whole"],
        [1000, 500, f"{short.mean():.1f}", short.min(), (short == 500).sum()],
        [100, "5,000", f"{long.mean():.1f}", long.min(), (long == 5000).sum()],
        ["100, a tenth of the pushes random", 500, f"{noisy.mean():.1f}", noisy.min(),
         (noisy == 500).sum()],
        ["1000, all pushes random", 500, f"{chance.mean():.1f}", chance.min(),
         (chance == 500).sum()])


def learning(ours, posts, peers):
    """Median and quartiles of the mean of 100 games, and one seed game by game."""
    figure = dqn.Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for color, name, runs in ("C0", "dqn.py", ours), ("C3", "the post's settings", posts), (
            "C4", "Stable-Baselines3", peers):
        curves = [means(scores)[:600] for scores in runs]
        length = min(map(len, curves))
        curves = [curve[:length] for curve in curves]
        low, mid, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
        left.plot(mid, color=color, label=f"{name}, {len(runs)} seeds")
        left.fill_between(range(length), low, high, color=color, alpha=0.25, linewidth=0)
    left.set(title="mean of the last 100 games: median and half of the seeds",
             xlabel="training game", ylabel="score (frames survived)", xlim=(0, 600))
    right.plot(ours[0], "C1.", markersize=3, label="each training game")
    right.plot(means(ours[0]), "C0", label="mean of the last 100")
    right.set(title=f"dqn.py, seed {SEEDS[0]}", xlabel="training game", xlim=(0, 600))
    chance = fresh(SOLUTION, 1000, 500, 1.0)[0].mean()
    for axes in left, right:
        axes.axhline(BAR, color="C2", linestyle="--", label=f"Gym's bar: {BAR}")
        axes.axhline(chance, color="gray", linestyle=":", label=f"random play: {chance:.0f}")
        axes.legend(fontsize=8, loc=(0.42, 0.62))
    figure.savefig(ROOT / "save/learning.png", dpi=100)


def games_of(agent, games=40, limit=5000):
    """The states of games without exploring, and the discounted return that followed each.

    States whose return is not known, as the game was stopped at the limit soon after, are left out.
    """
    envs = gym.make_vec("CartPole-v1", games, max_episode_steps=limit)
    state, _ = envs.reset(seed=10 ** 6)
    states, ends, playing = [], np.zeros(games, int), np.ones(games, bool)
    fell = np.zeros(games, bool)
    while playing.any():
        states.append(state.copy())
        state, _, terminated, truncated, _ = envs.step(np.argmax(agent.predict(state), axis=1))
        ends[playing] += 1
        fell |= playing & terminated
        playing &= ~(terminated | truncated)
    kept, returns = [], []
    for game in range(games):
        value, tail = 0.0, []
        for frame in reversed(range(ends[game])):
            last = fell[game] and frame == ends[game] - 1
            value = (-100 if last else 1) + agent.gamma * value
            tail.append(value)
        for frame, value in enumerate(reversed(tail)):  # .99 ** 1000 is next to nothing
            if fell[game] or frame < ends[game] - 1000:
                kept.append(states[frame][game])
                returns.append(value)
    return np.array(kept), np.array(returns)


def knowledge(agents):
    """Where the player is and what it would do there; what it expects and what it then gets."""
    figure = dqn.Figure(figsize=(12, 3.6), layout="constrained")
    panels, seen = figure.subplots(1, 4), {name: games_of(agent) for name, agent in agents.items()}
    player = [*seen.values()][-1][0]
    place, speed = np.median(player[:, 0]), np.median(player[:, 1])
    left, right, low, high = (np.degrees(np.quantile(player[:, column], share))
                              for column in (2, 3) for share in (0.01, 0.99))
    left, right, low, high = 4 * left, 4 * right, 2 * low, 2 * high
    angle, spin = np.meshgrid(np.linspace(left, right, 121), np.linspace(low, high, 121))
    states = np.stack([np.full_like(angle, place), np.full_like(angle, speed), np.radians(angle),
                       np.radians(spin)], axis=-1)
    maps = {name: agent.predict(states) @ [-1, 1] for name, agent in agents.items()}
    limit = np.abs([*maps.values()][-1]).max()
    for axes, (name, difference) in zip(panels, maps.items()):
        colours = axes.pcolormesh(angle, spin, difference, cmap="RdBu", vmin=-limit, vmax=limit)
        if difference.min() < 0 < difference.max():
            axes.contour(angle, spin, difference, [0], colors="black", linewidths=1)
        dots = np.degrees(np.random.default_rng(0).permutation(seen[name][0])[:400, 2:])
        axes.plot(*dots.T, "ko", markersize=2.5, markeredgecolor="white", markeredgewidth=0.3)
        axes.set(title=name, xlabel="pole angle (degrees)", xlim=(left, right), ylim=(low, high))
    panels[0].set(ylabel="angular velocity (degrees/second)")
    figure.colorbar(colours, ax=panels[2], label="right is worth more by", extend="both")
    rows = [["network", "states", "value: median (quartiles)", "return: median (quartiles)",
             "correlation"]]
    for color, (name, (states, returns)) in zip(("C1", "C4", "C0"), seen.items()):
        values = agents[name].predict(states).max(axis=1)
        some = np.random.default_rng(0).permutation(len(values))[:400]
        panels[3].plot(returns[some], values[some], ".", color=color, markersize=2.5, label=name)
        rows.append([name, len(values), quartiles(values, 1), quartiles(returns, 1),
                     f"{np.corrcoef(values, returns)[0, 1]:.2f}" if np.ptp(returns) > 1 else ""])
    panels[3].plot([-100, 100], [-100, 100], color="gray", linestyle=":")
    panels[3].set(title="does it know what it gets?", xlabel="discounted return that followed",
                  ylabel="the network's value", xlim=(-110, 110), ylim=(-110, 130))
    panels[3].legend(fontsize=8, markerscale=3)
    figure.savefig(ROOT / "save/knowledge.png", dpi=90)
    return rows


def pictures():
    agent, exam, networks = begin(0), exam_of(0), {}

    def after(scores):
        solved = (len(scores) >= 100 and np.mean(scores[-100:]) >= BAR
                  and dqn.play(agent, exam) == 5000)
        if len(scores) in (5, 60) or solved:
            networks[0, len(scores)] = agent.weights
        return solved

    train(agent, 1000, after)
    for seed in range(1, 10):
        agent = begin(seed)
        train(agent, 60, lambda scores: len(scores) == 60)
        networks[seed, 60] = agent.weights
    rows = [["seed", "network of game", "mean score", "games in which the pole fell",
             "in which the cart left the track", "after frames (median)"]]
    for (seed, games), weights in networks.items():
        scores, places = fresh(weights, 100, 500)
        left = abs(places) > 2.4
        rows.append([seed, games, f"{scores.mean():.0f}", sum((scores < 500) & ~left), sum(left),
                     f"{median(scores[left]):.0f}" if any(left) else ""])
    agents = {f"after {games} games": agent_with(weights)
              for (seed, games), weights in networks.items() if seed == 0}
    with tempfile.TemporaryDirectory() as folder:
        for stage, agent in zip(("early", "midway", "end"), agents.values()):
            file = Path(folder, "it.weights.h5")
            agent.model.save_weights(file)
            subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", file, "--gif",
                            ROOT / f"save/player-{stage}.gif"], check=True)
    known = knowledge(agents)
    learning([keep(fixed, "dqn.py", seed)["scores"] for seed in SEEDS[:20]],
             [keep(fixed, POST, seed)["scores"] for seed in FEWER[POST]],
             [keep(peer_run, seed)["scores"] for seed in range(5)])
    return """\
Networks on the way, in 100 fresh games of 500 frames each, without exploring:

""" + table(*rows) + """

The value that they give to the better action in the states of 40 games, of up to 5,000 frames,
without exploring, and the discounted return that really followed (perfect play: 100):

""" + table(*known)


PARTS = {part.__name__: part for part in (
    seeds, experiment, luck, peer, calls, shipped, pictures)}


def write(part, text):
    """Put the section of this part into tests/RESULTS.md, in place of the one that is there."""
    path, packages = ROOT / "tests/RESULTS.md", ("tensorflow", "keras", "numpy", "gymnasium")
    head, *sections = (path.read_text().split("\n## ") if path.exists() else
                       ["# Results, written by tests/benchmark.py\n"])
    found = {section.split("\n")[0]: section for section in sections}
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    found[part] = f"""{part}

`python tests/benchmark.py {part}`, {datetime.date.today()}, {os.cpu_count()} cores, no GPU,
{platform.system()}, Python {platform.python_version()}, {versions}.

{text}
"""
    path.write_text("\n## ".join([head, *(found[name] for name in PARTS if name in found)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    chosen = parser.parse_args().parts
    for name, part in PARTS.items():
        if name in chosen or "all" in chosen:
            write(name, part())
