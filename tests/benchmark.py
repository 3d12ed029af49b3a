"""The figures and pictures behind README.md. Each part writes its own section of tests/RESULTS.md, `pictures` also into save/.

    python tests/benchmark.py all              every part, about two hours
    python tests/benchmark.py seeds shipped    only these

All but `shipped` and `calls` run dqn.py itself, in a temporary folder: `peer` as it is, the others a copy in which a few
places are edited, so that it tells more of itself or undoes a departure. Two runs at a time, one thread each; `peer` and
`soak` one at a time, with nothing else on the machine.
"""
import argparse
import ast
import concurrent.futures
import datetime
import importlib.metadata
import json
import os
import platform
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

# What an edited copy of the script tells more: it plays at most LIMIT games until solved and 200 after, then writes told.json
TELL = [
    ("    scores, greedy, solved = [], [], False\n",
     "    scores, greedy, solved = [], [], False\n"
     "    import json, time; twenty = gym.make_vec('CartPole-v1', 20); stays, told, kept = [], {}, []\n"),
    ('sys.exit("dqn.py: the learning diverged: there are NaN or infinite weights")', "break  # not solved"),
    ("            solved = greedy", "            solved = solved or greedy"),
    ("            if solved:\n                break\n", """\
            if KEEP: kept.append(agent.weights)
            if told: stays.append(int(play(agent, twenty)) == 500)
            if solved and not told:
                agent.save("stop.weights.h5")
                told = dict(games=e + 1, frames=sum(scores), seconds=time.time() - float(os.environ["BEGAN"]))
            if len(stays) == 200 or e + 1 == LIMIT and not solved: break
""")]
END = ("    name = str(args.weights)", """\
    json.dump(dict(told, stays=sum(stays) / 200, scores=scores, greedy=greedy), open("told.json", "w"))
    np.save("kept.npy", np.array([np.concatenate([w.ravel() for w in each]) for each in kept]))
    name = str(args.weights)""")
BLIND = ("greedy.append(play(agent, game))", "greedy.append(0 if solved else play(agent, game))")  # saves time past the stop


def edited(*changes):
    """The script with each (old, new) of the changes made, in this order; old has to stand in it exactly once."""
    script = SCRIPT
    for old, new in changes:
        assert script.count(old) == 1, f"{old!r} stands {script.count(old)} times in dqn.py"
        script = script.replace(old, new)
    return script


def agent_with(weights):
    """An agent with the weights in a file, or in a row of kept.npy."""
    agent = dqn.DQNAgent(None)
    if isinstance(weights, Path):
        agent.load(weights)
    else:
        parts = np.split(weights, np.cumsum([weight.size for weight in agent.weights])[:-1])
        agent.weights = [part.reshape(weight.shape) for part, weight in zip(parts, agent.weights)]
        agent.model.set_weights(agent.weights)
    return agent


def fresh(weights, games, limit, exploring=0.0):
    """Scores of games that nobody has seen, the same for all weights, and where the carts were at their ends: (games,) each.

    weights as for agent_with; exploring is the share of random pushes; beyond 2.4 or -2.4 a cart has left the track.
    """
    agent, random = agent_with(weights), np.random.default_rng(games)
    envs = dqn.gym.make_vec("CartPole-v1", games, max_episode_steps=limit)
    state, _ = envs.reset(seed=10 ** 6 + limit)
    scores, places, playing = np.zeros(games, int), np.zeros(games), np.ones(games, bool)
    while playing.any():
        action = np.argmax(agent.predict(state), axis=1)
        action = np.where(random.random(games) < exploring, random.integers(2, size=games), action)
        state, _, terminated, truncated, _ = envs.step(action)
        scores += playing
        places = np.where(playing, state[:, 0], places)
        playing &= ~(terminated | truncated)
    return scores, places


def train(seed, changes=(), episodes=1000, tell=(BLIND,), keep=False):
    """Run an edited copy of the script; what it tells, and its folder, which stays until the caller removes it."""
    folder = Path(tempfile.mkdtemp())
    script = edited(*TELL, END, *tell, *changes)
    for name, value in ("LIMIT", episodes), ("KEEP", keep):
        script = script.replace(name, str(value))
    (folder / "dqn.py").write_text(script)
    command = [sys.executable, "dqn.py", "--seed", str(seed), "--episodes", str(episodes + 200)]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "BEGAN": str(time.time())})
    assert (folder / "told.json").exists(), process.stderr
    return dict(json.loads((folder / "told.json").read_text()), folder=folder)


def judged(seed, changes=(), episodes=1000):
    """train, and how the network that stopped the training plays 100 fresh games of 500 and of 5,000 frames."""
    told = train(seed, changes, episodes=episodes)
    if "games" in told:
        told["short"], told["long"] = (fresh(told["folder"] / "stop.weights.h5", 100, limit)[0] for limit in (500, 5000))
    shutil.rmtree(told["folder"])
    return told


def two_at_a_time(what, seeds, *args, **kwargs):
    """The results of judged(seed, ...) for all the seeds."""
    results = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda seed: judged(seed, *args, **kwargs), seeds):
            results.append(result)
            told = f"{result['games']} games, stays {result['stays']:.2f}" if "games" in result else "not solved"
            print(f"{what}: {len(results)} of {len(seeds)} seeds, the last: {told}", file=sys.stderr, flush=True)
    return results


def middle(values, digits=0):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(*rows):
    rows = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([rows[0], "|" + " --- |" * (rows[0].count("|") - 1), *rows[1:]])


def seeds():
    runs = two_at_a_time("seeds", range(100))
    good = [run for run in runs if "games" in run]
    rows = [[seed, *((run["games"], run["frames"], f"{run['seconds']:.1f}", f"{run['short'].mean():.1f}, {run['short'].min()}",
                      f"{(run['long'] == 5000).sum()}, {run['long'].min()}", f"{run['stays']:.2f}",
                      f"{mean(run['scores'][-100:]):.0f}") if "games" in run else ["not solved"] + [""] * 6)]
            for seed, run in enumerate(runs)]
    stays = [run["stays"] for run in good]
    return (f"{len(good)} of {len(runs)} seeds solved within 1,000 games; games {middle([run['games'] for run in good])}, frames "
            f"of training {middle([run['frames'] for run in good])}, seconds {middle([run['seconds'] for run in good], 1)}, median (range), two "
            f"runs at a time. {sum((run['long'] == 5000).all() for run in good)} of the networks keep 5,000 frames in each of 100 "
            f"fresh games, {sum((run['short'] == 500).all() for run in good)} keep 500; they are the same games for every network. "
            f"The check has 200 games because a network of seed 56 once passed a check of 100 and then kept 5,000 frames in 93.\n\n"
            f"It stays: {mean(stays):.3f} on average over the seeds ({min(stays):.2f} to {max(stays):.2f}), the share of the 200 games "
            f"trained past the stop after which 20 games without exploring all last 500 frames. Training score: the mean of the last "
            f"100 of these games, a tenth of the pushes random.\n\n" + table(["seed", "games", "frames of training", "seconds", "500 frames: mean, worst of 100",
                                    "5,000 frames: whole of 100, worst", "stays", "training score"], *rows))


# The departures, undone. What stands in `replay` between the draw and the epsilon, for each minibatch anew:
FIRST, LAST = "        state, action, reward, next_state, done = zip", "        self.fit(state, target_f, batch_size)\n"
REPLAY = FIRST + SCRIPT.partition(FIRST)[2].partition(LAST)[0] + LAST
MOVING = "        for batches in np.split(batches, batch_size):\n" + "".join("    " + line for line in REPLAY.splitlines(True))
DRAW = "np.random.choice(len(self.memory), batch_size ** 2)"
SINGLE = [("agent.replay(48)", "agent.replay(32)"), (DRAW, "np.random.choice(len(self.memory), min(batch_size, len(self.memory)))")]
RATE = ("self.learning_rate = 0.0015 ", "self.learning_rate = 0.0001 ")
GAMMA = ("self.gamma = 0.99 ", "self.gamma = 0.9 ")
EPSILON = ("self.epsilon_decay = .98 ", "self.epsilon_decay = .995 ")
DEATH = [("-100 if terminated else", "-100 if terminated or truncated else"),
         ("next_state, terminated)", "next_state, terminated or truncated)")]
V0 = ("env = gym.make('CartPole-v1', render", "env = gym.make('CartPole-v0', render")
ROOT_OF = ("RMSprop(learning_rate=self.learning_rate)", "RMSprop(learning_rate=self.learning_rate, epsilon=1e-16)")  # about 1e-8 outside
THE_POST = [*SINGLE, RATE, GAMMA, EPSILON, *DEATH, V0, ROOT_OF,
            (REPLAY, MOVING.replace("batches, batch_size)", "batches, len(batches))").replace("target_f, batch_size)", "target_f, 1)"))]
ABLATION = {  # what is undone or varied: (why it is here, the edits)
    "nothing": ("dqn.py as it is, to compare with.", []),
    "32 single samples a replay": (
        "The post learns from so many a game; the targets stay frozen.", SINGLE + [("(state, target_f, batch_size)", "(state, target_f, 1)")]),
    "learning rate 0.0001": ("The post's learning rate, to see whether small steps do.", [RATE]),
    "targets from the moving network": ("The post's network moves between samples, here between minibatches.", [(REPLAY, MOVING)]),
    "gamma 0.9": ("The post's gamma, to see whether looking ahead so far does.", [GAMMA]),
    "epsilon_decay .995": ("The post's decay, which explores for longer.", [EPSILON]),
    "the time limit is a death": ("The post remembers it so and punishes it.", DEATH),
    "CartPole-v0": ("The post's games of training have 200 frames; the check stays.", [V0]),
    "CartPole-v0, the time limit is a death": ("Both as in the post: the limit is met sooner.", [V0, *DEATH]),
    "draws no more than there are memories": ("The post's limit, in whole minibatches.", [
        (DRAW, "np.random.choice(len(self.memory), max(1, min(batch_size, len(self.memory) // batch_size)) * batch_size)"),
        ("@tf.function(jit_compile=True)", "@tf.function(reduce_retracing=True)")]),
    "RMSprop's epsilon outside the root": ("The Keras of 2017 had it there.", [ROOT_OF]),
    "everything: the post as written": ("All of the above at once, sample after sample.", THE_POST),
    "targets shuffled": ("A control: nothing to learn, and the same check as often.", [
        ("        target_f = self.predict(state)\n", "        np.random.shuffle(target)\n        target_f = self.predict(state)\n")]),
    "a new random network after each game": ("A control: the weights shuffled, not fitted; the same check as often.", [(LAST, """\
        self.model.set_weights([np.random.permutation(weight.ravel()).reshape(weight.shape) for weight in self.weights])
        self.weights = self.model.get_weights()
""")]),
    "only target frozen, not target_f": ("The value of the action not taken then has no error, as in the post.", [(LAST, """\
        for rows in np.split(np.arange(len(target)), batch_size):
            target_f = self.predict(state[rows])
            target_f[np.arange(len(rows)), np.array(action)[rows]] = target[rows]
            self.fit(state[rows], target_f, batch_size)
""")]),
    "32 minibatches of 32 at 0.003": ("An earlier recipe of this script, now with frozen targets.", [
        ("agent.replay(48)", "agent.replay(32)"), ("self.learning_rate = 0.0015 ", "self.learning_rate = 0.003 ")]),
    "an earlier check": ("100 games of 500 frames, once, after every other game.", [
        ("game = gym.make('CartPole-v1', max_episode_steps=5000", "game = gym.make('CartPole-v1', max_episode_steps=500"),
        ("'CartPole-v1', 200, max_episode_steps=5000", "'CartPole-v1', 100, max_episode_steps=500"),
        ("greedy[-3:] == [5000] * 3 and play(agent, games) == 5000 and play(agent, starts) == 500",
         "e % 2 == 0 and greedy[-1] == 500 and play(agent, games) == 500")]),
}


def ablation():
    rows = [["undone or varied", "solved", "games, of the solved: median (range)", "5,000 frames in each of 100 fresh games",
             "stays, mean over the solved", "the unsolved: score without exploring, median of games 401 to 500", "why it is here"]]
    for name, (why, changes) in ABLATION.items():
        began, runs = time.monotonic(), []
        for ten in range(0, 20, 10):
            if time.monotonic() - began < 450:
                runs += two_at_a_time(f"ablation, {name}", range(ten, ten + 10), changes, episodes=500)
        good, bad = [run for run in runs if "games" in run], [run for run in runs if "games" not in run]
        kept = sum((run["long"] == 5000).all() for run in good)
        rows.append([name, f"{len(good)} of {len(runs)}",
                     *([middle([run["games"] for run in good]), f"{kept} of {len(good)}", f"{mean(run['stays'] for run in good):.2f}"]
                       if good else [""] * 3),
                     f"{median([score for run in bad for score in run['greedy'][-100:]]):.0f}" if bad else "", why])
        print(table(*rows), file=sys.stderr, flush=True)
    return ("dqn.py with one departure undone at a time, then the post as written, two controls, and variants that were weighed. Seeds 0 to "
            "19, or 0 to 9 (*of 10*) in a row of over a quarter of an hour. At most 500 games, so a seed that `seeds` solves later counts as not "
            "solved here. *Solved* is dqn.py's own check, but in the last row.\n\n" + table(*rows))


PEER = '''
import sys
import gymnasium as gym
import numpy as np
import pygame
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

torch.set_num_threads(1)

PLAY

class Player:
    def predict(self, state):
        weights = [each.detach().numpy().T for each in model.q_net.parameters()]
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2]):
            state = np.maximum(state @ kernel + bias, 0)
        return state @ weights[-2] + weights[-1]

class Check(BaseCallback):
    def _on_step(self):
        if self.num_timesteps % 1000 == 0 and check(Player()):
            model.save("peer")
            print(self.num_timesteps)
            return False
        return True

def check(player):
    return play(player, game) == 5000 and play(player, games) == 5000 and play(player, starts) == 500

seed = int(sys.argv[1])
starts = gym.make_vec("CartPole-v1", 1000, max_episode_steps=500)
game = gym.make("CartPole-v1", max_episode_steps=5000, disable_env_checker=True)
games = gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)
model = DQN("MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, batch_size=64, buffer_size=100000, learning_starts=1000,
            gamma=0.99, target_update_interval=10, train_freq=256, gradient_steps=128, exploration_fraction=0.16,
            exploration_final_eps=0.04, policy_kwargs=dict(net_arch=[256, 256]), seed=seed, device="cpu")
model.learn(50_000, callback=Check())
'''


def peer():
    play, = (ast.get_source_segment(SCRIPT, node) for node in ast.parse(SCRIPT).body if getattr(node, "name", "") == "play")
    commands = {"dqn.py": "dqn.py", "Stable-Baselines3": "peer.py", "import tensorflow": "floor.py"}
    rows, seconds = [], {name: [] for name in commands}
    for seed in range(5):
        with tempfile.TemporaryDirectory() as folder:
            for name, script in zip(commands.values(), (SCRIPT, PEER.replace("PLAY", play), "import tensorflow")):
                Path(folder, name).write_text(script)
            row = [seed]
            for name, script in commands.items():
                began = time.monotonic()
                process = subprocess.run([sys.executable, script, *(["--seed"] if script == "dqn.py" else []), str(seed)],
                                         cwd=folder, capture_output=True, text=True)
                seconds[name].append(time.monotonic() - began)
                assert process.returncode == 0 and (process.stdout or script == "floor.py"), process.stderr
                row.append(f"{seconds[name][-1]:.1f}")
                if script != "floor.py":
                    row.append(process.stdout.splitlines()[-1].split(":")[0].removeprefix("solved after "))
        rows.append(row)
        print("peer:", *row, file=sys.stderr, flush=True)
    ours, theirs, floor = map(median, seconds.values())
    return (f"Seconds from the start of the process to weights on disk that have passed the check, imports and checks included, one "
            f"process at a time, in turn, one thread each: dqn.py against Stable-Baselines3 {importlib.metadata.version('stable-baselines3')}'s "
            f"DQN with the settings of its zoo, its network in NumPy too where it is checked. The games of the check are the same; dqn.py "
            f"is looked at after every game and has to be good three times in a row, the peer every 1,000 frames and once. Medians: "
            f"{ours:.1f}, {theirs:.1f}, ratio {ours / theirs:.2f}. The floor: {floor:.1f} for a process that only imports TensorFlow; the other parts are in `calls`.\n\n"
            + table(["seed", "dqn.py: seconds", "games", "Stable-Baselines3: seconds", "frames", "import tensorflow: seconds"], *rows))


def milliseconds(call, repeat):
    call()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return f"{median(took):.3g}"


def calls():
    agent, random = dqn.DQNAgent(dqn.gym.make("CartPole-v1")), np.random.default_rng(0)
    states = np.float32(random.normal(size=(2304, 4)))
    state, targets = states[:1], agent.predict(states)
    began = time.perf_counter()
    agent.fit(states, targets, 48)
    compiling = 1000 * (time.perf_counter() - began)
    plain = dqn.tf.function(type(agent)._fit.python_function)
    minibatches = states.reshape(48, 48, 4), targets.reshape(48, 48, 2)
    games = dqn.gym.make_vec("CartPole-v1", 200, max_episode_steps=5000)

    def remembering(count):
        while len(agent.memory) < count:
            agent.remember(np.float32(random.normal(size=(1, 4))), np.int64(random.integers(2)), 1.0, state, False)
        return milliseconds(lambda: agent.replay(48), 20)

    def check():
        state, _ = games.reset(seed=0)
        for _ in range(5000):
            state, *_ = games.step(np.argmax(agent.predict(state), axis=1))

    return "Milliseconds, median.\n\n" + table(
        ["call", "ms"],
        ["the values of one state: model.predict, as in the post", milliseconds(lambda: agent.model.predict(state, verbose=0), 20)],
        ["the values of one state: model.predict_on_batch, the fair alternative", milliseconds(lambda: agent.model.predict_on_batch(state), 200)],
        ["the values of one state: agent.predict, in NumPy", milliseconds(lambda: agent.predict(state), 2000)],
        ["the values of 2,304 states: model.predict_on_batch", milliseconds(lambda: agent.model.predict_on_batch(states), 20)],
        ["the values of 2,304 states: agent.predict", milliseconds(lambda: agent.predict(states), 20)],
        ["48 minibatches of 48: model.fit", milliseconds(lambda: agent.model.fit(states, targets, batch_size=48, verbose=0), 10)],
        ["48 minibatches of 48: model.train_on_batch, the fair alternative",
         milliseconds(lambda: [agent.model.train_on_batch(*each) for each in zip(*minibatches)], 10)],
        ["48 minibatches of 48: tf.function", milliseconds(lambda: plain(agent, *minibatches), 20)],
        ["48 minibatches of 48: agent.fit, tf.function with jit_compile", milliseconds(lambda: agent.fit(states, targets, 48), 20)],
        ["the first call of agent.fit, which compiles", f"{compiling:.3g}"],
        ["agent.replay(48), 5,000 transitions in memory", remembering(5_000)],
        ["agent.replay(48), 500,000 transitions in memory", remembering(500_000)],
        ["5,000 frames of 200 games at once, as in the check", milliseconds(check, 3)])


def soak():
    told = "soak.jsonl"
    watch = ("            agent.replay(48)  # post: 32\n", f"""\
            began = time.time()
            agent.replay(48)
            memory = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
            print(json.dumps([time.time() - began, memory, len(agent.memory), time.time()]), file=open("{told}", "a"))
""")
    endless = ("            solved = solved or greedy[-3:] == [5000] * 3 and", "            solved = False and")
    folder = train(0, [watch, endless], episodes=3000)["folder"]
    replays, memories, transitions, times = zip(*map(json.loads, (folder / told).read_text().splitlines()))
    shutil.rmtree(folder)
    rows = [[game, transitions[game - 1], f"{1000 * median(replays[game - 100:game]):.0f}",
             f"{(times[game - 1] - times[game - 100]) / 99:.3f}", f"{memories[game - 1]:.0f}"] for game in (100, 1000, 3000)]
    growth = (memories[2999] - memories[999]) * 1e6 / (transitions[2999] - transitions[999])
    return (f"3,000 games of seed 0, without the stop. Between game 1,000 and 3,000 resident memory grows by {growth:.0f} bytes a "
            f"transition: like the post's, the agent keeps them all. Of the last 100 games: the median replay, the mean seconds.\n\n"
            + table(["game", "transitions in memory", "ms a replay", "seconds a game, play and one game without exploring included",
                     "resident memory, MB"], *rows))


def shipped():
    weights = ROOT / "save/cartpole-dqn.weights.h5"
    (short, _), (long, _) = fresh(weights, 1000, 500), fresh(weights, 100, 5000)
    (noisy, _), (chance, _) = fresh(weights, 100, 500, exploring=0.1), fresh(weights, 1000, 500, exploring=1.0)
    return ("The weights in save/, without exploring, in games that neither the training nor its check has seen.\n\n" + table(
        ["games", "frames at most", "mean", "worst", "whole"],
        [1000, 500, f"{short.mean():.1f}", short.min(), (short == 500).sum()],
        [100, "5,000", f"{long.mean():.1f}", long.min(), (long == 5000).sum()],
        ["100, a tenth of the pushes random", 500, f"{noisy.mean():.1f}", noisy.min(), (noisy == 500).sum()],
        ["1000, all pushes random", 500, f"{chance.mean():.1f}", chance.min(), (chance == 500).sum()]))


def learning(runs, post):
    """The curves: for each seed, and for the post's settings, the score without exploring after each game."""
    figure = dqn.Figure(figsize=(10, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    names = [*(f"dqn.py, seed {seed}" for seed in range(5)), "the post's settings, seed 0"]
    for axes, name, run in zip(panels.flat, names, [*runs, post]):
        axes.semilogy(run["scores"], ".", color="C1", markersize=2.5, label="training, exploring")
        axes.semilogy(run["greedy"], color="C0", linewidth=0.8, label="without exploring")
        axes.axhline(22, color="gray", linestyle="--", label="random play, on average")
        if "games" in run:
            axes.axvline(run["games"] - 1, color="C3", label="solved: the script stops here")
        axes.set(title=name, ylim=(5, 7000))
    figure.supxlabel("game")
    figure.supylabel("score (frames survived)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(ROOT / "save/learning.png", dpi=90)


def knowledge(agents):
    """The maps: what pushing right is worth more than left, and at the end what a place on the track is worth."""
    figure = dqn.Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 4)
    angle, spin = np.meshgrid(np.linspace(-12, 12, 121), np.linspace(-180, 180, 121))
    still = np.zeros_like(angle)
    for axes, (name, agent) in zip(panels, agents.items()):
        values = agent.predict(np.stack([still, still, np.radians(angle), np.radians(spin)], axis=-1))
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
    panels[3].set(title="the end: value of a place", xlabel="cart position", ylabel="cart velocity")
    figure.colorbar(colours, ax=panels[3])
    figure.savefig(ROOT / "save/knowledge.png", dpi=90)


def pictures():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        *runs, post = pool.map(lambda seed: train(seed, tell=(), keep=True) if seed < 5 else
                               train(0, THE_POST, episodes=500, tell=()), range(6))
    learning(runs, post)
    rows, agents = [], {}
    for seed, run in enumerate(runs):
        networks = np.load(run["folder"] / "kept.npy")
        for name, game in ("early", 5), ("half-way", run["games"] // 2), ("end", run["games"]):
            scores, places = fresh(networks[game - 1], 100, 500)
            fell = abs(places[(scores < 500) & (abs(places) < 2.4)])
            rows.append([seed, f"{name}: after {game} games", f"{scores.mean():.0f}", sum(places < -2.4), sum(places > 2.4),
                         f"{len(fell)}" + (f", {median(fell):.1f} from the middle" if len(fell) else "")])
            if seed == 0:
                agent = agents[f"{name}: after {game} games"] = agent_with(networks[game - 1])
                weights = run["folder"] / f"{name}.weights.h5"
                agent.save(weights)
                subprocess.run([sys.executable, ROOT / "dqn.py", "--watch", "--weights", weights, "--gif",
                                ROOT / f"save/player-{name.replace('half-', 'mid')}.gif"], check=True)
    knowledge(agents)
    for run in *runs, post:
        shutil.rmtree(run["folder"])
    return ("The networks of learning.png on the way, 100 fresh games of 500 frames each, without exploring: how those end "
            "that do not last.\n\n" + table(["seed", "network", "mean score", "cart off the track, left", "cart off the track, right",
                                  "pole fell, the cart how far (median; the track ends at 2.4)"], *rows))


PARTS = {part.__name__: part for part in (seeds, ablation, peer, calls, soak, shipped, pictures)}


def write(part, text):
    """Put the section of this part into tests/RESULTS.md, in place of the one that is there."""
    path, packages = ROOT / "tests/RESULTS.md", ("tensorflow", "keras", "numpy", "gymnasium")
    head, *sections = path.read_text().split("\n## ") if path.exists() else ["# Results, written by tests/benchmark.py\n"]
    found = {section.split("\n")[0]: section for section in sections}
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    found[part] = (f"{part}\n\n`python tests/benchmark.py {part}`, {datetime.date.today()}, {len(model)} cores ({model[0]}), no GPU, "
                   f"{platform.system()}, Python {platform.python_version()}, "
                   + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages) + f"\n\n{text}\n")
    path.write_text("\n## ".join([head, *(found[name] for name in PARTS if name in found)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    chosen = parser.parse_args().parts
    for name, part in PARTS.items():
        if name in chosen or "all" in chosen:
            write(name, part())
