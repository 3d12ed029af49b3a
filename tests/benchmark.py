"""The figures and pictures behind README.md. Each part writes its own section of tests/RESULTS.md.

    python tests/benchmark.py all              every part, about an hour
    python tests/benchmark.py seeds shipped    only these

All but `shipped` and `calls` run dqn.py itself, in a temporary folder: `peer` as it is, the others
a copy in which a few places are edited, so that it tells more of itself or undoes a departure. Two
runs at a time, one thread each; `peer` one at a time, with nothing else on the machine.
"""
import argparse
import concurrent.futures
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import dqn  # noqa: E402  before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

SCRIPT = (ROOT / "dqn.py").read_text()
SOLUTION = ROOT / "save/cartpole-dqn.weights.h5"
SEEDS = range(1100, 1200)  # of the report; tuned was on 0 to 19

# What an edited copy of the script tells: it plays at most LIMIT games until it is solved and PAST
# after, and writes told.json; stop.weights.h5 are the weights that dqn.py would have saved.
LOOP = "    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):\n"
CHECK = """\
            good = e >= 99 and np.mean(scores[-100:]) >= bar
            solved = good and play(agent, exam) == 5000
            if solved:
                break
"""
SAVE = "    signal.signal(signal.SIGINT, signal.SIG_IGN)"
TELL = [
    (LOOP, """\
    import json, time
    twenty = gym.make_vec('CartPole-v1', 20)
    twenty.reset(seed=5)
    told, exams, stays, kept = {}, [], [], []
""" + LOOP),
    (CHECK, """\
            if KEEP: kept.append(np.concatenate([w.ravel() for w in agent.weights]))
            if solved: stays.append(int(play(agent, twenty)) == 500)
            good = not solved and e >= 99 and np.mean(scores[-100:]) >= bar
            if good:
                exams.append(int(play(agent, exam)))
                solved = exams[-1] == 5000
                if solved:
                    agent.model.save_weights("stop.weights.h5")
                    seconds = time.time() - float(os.environ["BEGAN"])
                    told = dict(games=e + 1, frames=sum(scores), seconds=seconds)
            if not solved and e + 1 == LIMIT or solved and len(stays) == PAST: break
"""),
    (SAVE, """\
    past = scores[told.get("games", 0):]
    told.update(scores=scores, exams=exams, past=float(np.mean(past or [0])),
                stays=float(np.mean(stays or [0])))
    json.dump(told, open("told.json", "w"))
    np.save("kept.npy", np.array(kept))
""" + SAVE)]


def edited(*changes):
    """The script with each (old, new) of the changes made; old has to stand in it exactly once."""
    script = SCRIPT
    for old, new in changes:
        assert script.count(old) == 1, f"{old!r} stands {script.count(old)} times in dqn.py"
        script = script.replace(old, new)
    return script


def agent_with(weights):
    """An agent with the weights in a file, or in a row of kept.npy."""
    agent = dqn.DQNAgent(None)
    if isinstance(weights, Path):
        with dqn.quiet_stderr():
            agent.model.load_weights(weights)
    else:
        parts = np.split(weights, np.cumsum([weight.size for weight in agent.weights])[:-1])
        agent.model.set_weights([p.reshape(w.shape) for p, w in zip(parts, agent.weights)])
    agent.weights = agent.model.get_weights()
    return agent


def fresh(weights, games, limit, exploring=0.0):
    """Scores of games that nobody has seen, and where the carts were at their ends: (games,) each.

    weights: as for agent_with; exploring: the share of random pushes. The games are the same for
    all weights. A cart at more than 2.4 or less than -2.4 has left the track.
    """
    agent, random = agent_with(weights), np.random.default_rng(games)
    envs = dqn.gym.make_vec("CartPole-v1", games, max_episode_steps=limit)
    state, _ = envs.reset(seed=10 ** 6 + limit)
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


def train(seed, changes=(), limit=1000, past=200, keep=False):
    """Run an edited copy of the script; what it tells, and its folder, for the caller to remove."""
    folder = Path(tempfile.mkdtemp())
    (folder / "save").mkdir()
    script = edited(*TELL, *changes)
    for name, value in ("LIMIT", limit), ("PAST", past), ("KEEP", keep):
        script = script.replace(name, str(value))
    (folder / "dqn.py").write_text(script)
    command = [sys.executable, "dqn.py", "--seed", str(seed), "--episodes", str(limit + past)]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                             env={**os.environ, "BEGAN": str(time.time())})
    assert (folder / "told.json").exists(), process.stderr
    return dict(json.loads((folder / "told.json").read_text()), folder=folder)


def judged(seed, changes=(), **limits):
    """train, and how the network that dqn.py would save plays 100 games of 500 and of 5,000."""
    told = train(seed, changes, **limits)
    if "games" in told:
        stop = told["folder"] / "stop.weights.h5"
        told["short"], told["long"] = (fresh(stop, 100, limit)[0] for limit in (500, 5000))
    shutil.rmtree(told["folder"])
    return told


def two_at_a_time(what, seeds, *args, **kwargs):
    """The results of judged(seed, ...) for all the seeds."""
    results = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda seed: judged(seed, *args, **kwargs), seeds):
            results.append(result)
            told = f"{result['games']} games" if "games" in result else "not solved"
            print(f"{what}: {len(results)} of {len(seeds)} seeds, the last: {told}, "
                  f"stays {result['stays']:.2f}", file=sys.stderr, flush=True)
    return results


def middle(values, digits=0):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(*rows):
    rows = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([rows[0], "|" + " --- |" * (rows[0].count("|") - 1), *rows[1:]])


def seeds():
    runs = (two_at_a_time("seeds", SEEDS[:20], past=200)
            + two_at_a_time("seeds", SEEDS[20:], past=0))
    good = [run for run in runs if "games" in run]
    rows = [[seed, *([run["games"], run["frames"], f"{run['seconds']:.1f}", len(run["exams"]),
                      f"{run['short'].mean():.1f}, {run['short'].min()}",
                      f"{(run['long'] == 5000).sum()}, {run['long'].min()}",
                      *([f"{run['past']:.1f}", f"{run['stays']:.2f}"] if i < 20 else ["", ""])]
                     if "games" in run else ["not solved"] + [""] * 7)]
            for i, (seed, run) in enumerate(zip(SEEDS, runs))]
    games, frames, seconds = ([run[key] for run in good] for key in ("games", "frames", "seconds"))
    past, stays = ([run[key] for run in runs[:20] if "games" in run] for key in ("past", "stays"))
    return f"""\
{len(good)} of {len(runs)} seeds solved within 1,000 games, {sum(game <= 600 for game in games)}
within 600: in {middle(games)} games, {middle(frames)} frames, {middle(seconds, 1)} seconds, median
(range), two runs at a time. {sum((run["long"] == 5000).all() for run in good)} of the networks keep
5,000 frames in each of 100 fresh games, {sum((run["short"] == 500).all() for run in good)} keep 500
in each of 100 others; the fresh games are the same for every network.

The first 20 seeds were trained 200 games more, without stopping: the mean training score of these
games, a tenth of the pushes random, is {mean(past):.1f} ({min(past):.1f} to {max(past):.1f}),
{sum(p >= 475 for p in past)} seeds at 475 or more; *stays*, the share of these 200 games after
which 20 games without exploring all last 500 frames, is {mean(stays):.3f} on average
({min(stays):.2f} to {max(stays):.2f}).

""" + table(["seed", "games", "frames", "seconds", "exams", "500 frames: mean, worst of 100",
             "5,000 frames: whole of 100, worst", "200 more: score", "stays"], *rows)


# The departures, undone. In replay: what is learnt from the memories drawn; and as the post does
# it, one minibatch after the other, each with targets from the network as it then is
FIRST = "        state, action, reward, next_state, done = map("
LAST = "        self.fit(state, target_f)\n"
LEARN = FIRST + SCRIPT.partition(FIRST)[2].partition(LAST)[0] + LAST
MOVING = (LEARN, """\
        for k in range(0, batch_size, self.minibatch_size):
            columns = zip(*batches[k:k + self.minibatch_size])
            state, action, reward, next_state, done = map(np.array, columns)
            state, next_state = state.reshape(-1, 4), next_state.reshape(-1, 4)
            future = self.gamma * np.amax(self.predict(next_state), axis=1)
            target_f = self.predict(state)
            target_f[np.arange(len(state)), action] = np.where(done, reward, reward + future)
            self.fit(state, target_f)
            self.weights = self.model.get_weights()
""")


def number(name, value):
    """The edit that gives another value to one of the agent's numbers."""
    line = next(line for line in SCRIPT.splitlines(True) if f"self.{name} = " in line)
    return line, f"        self.{name} = {value}\n"


WON = ("if terminated or good:", "if True:")
GAMMA = number("gamma", 0.9)
RATE = number("learning_rate", 0.0001)
EPSILON = number("rmsprop_epsilon", 1e-7)
SINGLE = number("minibatch_size", 1)
REPLAY, = re.findall(r"agent\.replay\(\d+\)", SCRIPT)
ONCE = ("for _ in range(4)", "for _ in range(1)")
FEW = (REPLAY, "agent.replay(32)")
DEATH = [("-100 if terminated else", "-100 if terminated or truncated else"),
         ("next_state, terminated)", "next_state, terminated or truncated)")]
V0 = ("gym.make('CartPole-v1', render", "gym.make('CartPole-v0', render")
ABLATION = {  # what is undone or varied: the edits
    "nothing": [],
    "learns from every game, also from a won one": [WON],
    "gamma .9": [GAMMA],
    "learning rate .0001": [RATE],
    "RMSprop's epsilon 1e-7": [EPSILON],
    "one replay a game": [ONCE],
    "32 memories a replay, in one minibatch": [FEW, number("minibatch_size", 32)],
    "targets from the moving network": [MOVING],
    "the time limit is a death": DEATH,
    "CartPole-v0 and its bar": [V0],
    "everything: the post's settings": [
        WON, GAMMA, RATE, EPSILON, SINGLE, ONCE, FEW, MOVING, *DEATH, V0],
    "control: targets shuffled": [(LAST, """\
        np.random.shuffle(target)
        target_f[np.arange(batch_size), action] = target
""" + LAST)],
    "control: a new random network after each game": [(LAST, """\
        self.model.set_weights([np.random.permutation(weight.ravel()).reshape(weight.shape)
                                for weight in self.weights])
""")],
}


def ablation():
    rows = [["undone or varied", "solved", "games, of the solved: median (range)",
             "best mean of 100 games, of the unsolved: median",
             "kept 5,000 frames in each of 100 fresh games"]]
    for name, changes in ABLATION.items():
        runs = two_at_a_time(f"ablation, {name}", range(6), changes, limit=600, past=0)
        good = [run for run in runs if "games" in run]
        best = [max(np.convolve(run["scores"], np.ones(100) / 100, "valid"))
                for run in runs if "games" not in run]
        rows.append([name, f"{len(good)} of {len(runs)}",
                     middle([run["games"] for run in good]) if good else "",
                     f"{median(best):.0f}" if best else "",
                     f"{sum((run['long'] == 5000).all() for run in good)} of {len(good)}"])
        print(table(*rows), file=sys.stderr, flush=True)
    return """\
dqn.py with one departure undone at a time, then with all undone, then two controls. Seeds 0 to 5,
at most 600 games; *solved* is dqn.py's own check: Gym's bar and the exam. CartPole-v0's bar is a
mean of 195 of 200.

""" + table(*rows)


PEER = """
import sys
import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

torch.set_num_threads(1)

def predict(state):
    weights = [each.detach().numpy().T for each in model.q_net.parameters()]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2]):
        state = np.maximum(state @ kernel + bias, 0)
    return state @ weights[-2] + weights[-1]

def play(env):
    state, _ = env.reset()
    for time_t in range(5000):
        state, _, terminated, truncated, _ = env.step(np.argmax(predict(state), axis=-1))
        if np.any(terminated | truncated):
            return time_t + 1

class Check(BaseCallback):
    def _on_step(self):
        if self.num_timesteps % 1000 == 0 and play(game) == 5000 and play(games) == 5000 and (
                play(starts) == 500):
            model.save("solved")
            print(self.num_timesteps)
            return False
        return True

game = gym.make("CartPole-v1", max_episode_steps=5000)
games = gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)
starts = gym.make_vec("CartPole-v1", 1000, max_episode_steps=500)
model = DQN("MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, batch_size=64, buffer_size=100000,
            learning_starts=1000, gamma=0.99, target_update_interval=10, train_freq=256,
            gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04,
            policy_kwargs=dict(net_arch=[256, 256]), seed=int(sys.argv[1]), device="cpu")
model.learn(50_000, callback=Check())
"""


def peer():
    rows, ratios, seconds = [], [], {"dqn.py": [], "peer.py": []}
    for seed in range(5):
        row = [seed]
        for name, script, args, file in (
                ("dqn.py", SCRIPT, ["--weights", "solved.weights.h5", "--seed"],
                 "solved.weights.h5"), ("peer.py", PEER, [], "solved.zip")):
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, name).write_text(script)
                began = time.time()
                process = subprocess.run([sys.executable, name, *args, str(seed)], cwd=folder,
                                         capture_output=True, text=True)
                assert Path(folder, file).exists(), process.stderr
                seconds[name].append(Path(folder, file).stat().st_mtime - began)
            row += [f"{seconds[name][-1]:.1f}", process.stdout.splitlines()[-1].split(":")[0]]
        ratios.append(seconds["dqn.py"][-1] / seconds["peer.py"][-1])
        rows.append([*row, f"{ratios[-1]:.2f}"])
        print("peer:", *rows[-1], file=sys.stderr, flush=True)
    ours, theirs = map(median, seconds.values())
    return f"""\
Seconds from the start of the process to the weights on disk, imports and checks included, one
process at a time, in turn, one thread each. dqn.py until it is solved: Gym's bar and the exam.
Stable-Baselines3 {importlib.metadata.version("stable-baselines3")}'s DQN with the settings of its
zoo, until it first passes, looked at every 1,000 frames, the check of this script's second version:
without exploring, 1 and then 200 games of 5,000 frames and 1,000 of 500. Its network is in NumPy,
too, where it is checked.
Medians: {ours:.1f} and {theirs:.1f}; of the ratios: {middle(ratios, 2)}.

""" + table(["seed", "dqn.py: seconds", "games", "the peer: seconds", "frames", "ratio"], *rows)


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
    plain, single = dqn.tf.function(type(agent).fit), dqn.DQNAgent(None)
    single.minibatch_size = 1
    starts = range(0, n, size)
    for i in range(10000):
        action = np.int64(random.integers(2))
        agent.remember(states[i % n:i % n + 1], action, 1.0, states[i % n:i % n + 1], False)
    games = dqn.gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)

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
        [f"agent.replay({n}), 10,000 memories", milliseconds(lambda: agent.replay(n), 50)],
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


def learning(runs, post):
    """The curves of five seeds, and of the post's settings."""
    figure = dqn.Figure(figsize=(10, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    names = [*(f"dqn.py, seed {seed}" for seed in range(5)), "the post's settings, seed 0"]
    for axes, name, run in zip(panels.flat, names, [*runs, post]):
        scores = run["scores"]
        means = np.convolve(scores, np.ones(100) / 100)[:len(scores)]
        axes.plot(scores, ".", color="C1", markersize=2.5, label="each training game")
        axes.plot(means, color="C0", label="mean of 100 games")
        axes.axhline(475, color="C2", linestyle="--", label="Gym's bar")
        if "games" in run:
            axes.axvline(run["games"] - 1, color="C3", label="solved: the script stops here")
        axes.set(title=name)
    figure.supxlabel("game")
    figure.supylabel("score (frames survived)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(ROOT / "save/learning.png", dpi=90)


def knowledge(agents):
    """The maps: what pushing right is worth more than left, and what a place on the track is."""
    figure = dqn.Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 4)
    angle, spin = np.meshgrid(np.linspace(-12, 12, 121), np.linspace(-180, 180, 121))
    still = np.zeros_like(angle)
    for axes, (name, agent) in zip(panels, agents.items()):
        states = np.stack([still, still, np.radians(angle), np.radians(spin)], axis=-1)
        values = agent.predict(states)
        difference = values[..., 1] - values[..., 0]
        limit = np.abs(difference).max()
        colours = axes.pcolormesh(angle, spin, difference, cmap="RdBu", vmin=-limit, vmax=limit)
        axes.contour(angle, spin, difference, [0], colors="black")
        axes.set(title=name, xlabel="pole angle (degrees)")
        figure.colorbar(colours, ax=axes)
    panels[0].set(ylabel="angular velocity (degrees per second)")
    place, speed = np.meshgrid(np.linspace(-2.4, 2.4, 121), np.linspace(-2, 2, 121))
    values = agent.predict(np.stack([place, speed, still, still], axis=-1)).max(axis=-1)
    colours = panels[3].pcolormesh(place, speed, values, cmap="viridis")
    panels[3].set(title="the end: value of a place", xlabel="cart position",
                  ylabel="cart velocity")
    figure.colorbar(colours, ax=panels[3])
    figure.savefig(ROOT / "save/knowledge.png", dpi=90)


def pictures():
    def run(seed):
        if seed == 5:
            return train(0, ABLATION["everything: the post's settings"], limit=600)
        return train(seed, keep=True)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        *runs, post = pool.map(run, range(6))
    learning(runs, post)
    rows, agents = [], {}
    for seed, run in enumerate(runs):
        networks = np.load(run["folder"] / "kept.npy")
        for name, game in ("early", 5), ("midway", 60), ("end", run["games"]):
            scores, places = fresh(networks[game - 1], 100, 500)
            fell = abs(places[(scores < 500) & (abs(places) < 2.4)])
            rows.append([seed, f"{name}: after {game} games", f"{scores.mean():.0f}",
                         sum(abs(places) > 2.4), len(fell),
                         f"{median(fell):.1f}" if len(fell) else ""])
            if seed == 0:
                agent = agents[f"{name}: after {game} games"] = agent_with(networks[game - 1])
                weights = run["folder"] / f"{name}.weights.h5"
                agent.model.save_weights(weights)
                subprocess.run([sys.executable, ROOT / "dqn.py", "--weights", weights, "--gif",
                                ROOT / f"save/player-{name}.gif"], check=True)
    knowledge(agents)
    for run in *runs, post:
        shutil.rmtree(run["folder"])
    return """\
The networks of learning.png on the way, 100 fresh games of 500 frames each, without exploring: how
those games end that do not last.

""" + table(["seed", "network", "mean score", "cart off the track", "pole fell",
             "the cart how far from the middle then (the track ends at 2.4)"], *rows)


PARTS = {part.__name__: part for part in (seeds, ablation, peer, calls, shipped, pictures)}


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
