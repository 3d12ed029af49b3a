"""The README's figures: how fast dqn.py learns, how surely, and what each departure from the post buys.

    python tests/benchmark.py seeds       20 seeds: solved or not, games, frames, seconds, fresh games played
    python tests/benchmark.py shipped     the weights in save/
    python tests/benchmark.py peer        seconds, alternately with Stable-Baselines3's tuned DQN
    python tests/benchmark.py ablation    one departure undone at a time, and all of them
    python tests/benchmark.py soak        3,000 games without the stop: memory and time per replay
    python tests/benchmark.py calls       what the compiled and NumPy shortcuts save against the plain Keras calls
    python tests/benchmark.py phases      how the games of the training end
    python tests/benchmark.py pictures    the pictures in save/

All but `shipped` and `calls` run the script itself, in a temporary folder; where it has to differ, a copy with a few places edited.
"""
import argparse
import ast
import concurrent.futures
import importlib.util
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = (ROOT / "dqn.py").read_text()
UNDO = {  # departure -> the edits that undo it
    "learning rate": [("self.learning_rate = 0.003 ", "self.learning_rate = 0.0001 ")],
    "gamma": [("self.gamma = 0.99 ", "self.gamma = 0.9 ")],
    "epsilon decay": [("self.epsilon_decay = .98 ", "self.epsilon_decay = .995 ")],
    "32 minibatches, not single samples": [("agent.replay(32)", "agent.replay(1)")],
    "32 minibatches, not one": [("self.minibatches = 32 ", "self.minibatches = 1 ")],
    "time limit is no death": [("-100 if terminated else", "-100 if terminated or truncated else"),
                               ("next_state, terminated)", "next_state, terminated or truncated)")],
}
FREEZE = [  # the frozen targets of the 2015 paper, which the post does not have and dqn.py gave up again
    ("        for i in tf.range(len(states)):\n", "        frozen = tf.reshape(self.model(tf.reshape(next_states, "
     "(-1, next_states.shape[2]))), (*actions.shape, -1))\n        for i in tf.range(len(states)):\n"),
    ("self.model(next_states[i])", "frozen[i]")]
THE_POST = [change for name, changes in UNDO.items() if name != "32 minibatches, not one" for change in changes]
ABLATION = {"nothing": [], **UNDO, "everything: the post as written": THE_POST,
            "(nothing, but the targets are frozen for a replay)": FREEZE}
DUMP = ("    agent.save(", "    import pickle; pickle.dump((agent.memory, scores), open('dump', 'wb'))\n    agent.save(")


def edited(*changes):
    script = SCRIPT
    for old, new in changes:
        assert script.count(old) == 1, f"{old!r} stands {script.count(old)} times in dqn.py"
        script = script.replace(old, new)
    return script


def train(seed, script=SCRIPT, args=()):
    """Run the script in a folder; returns the folder, whether it solved the game, the scores of its games, seconds."""
    folder = Path(tempfile.mkdtemp())
    (folder / "dqn.py").write_text(script)
    began = time.monotonic()
    process = subprocess.run([sys.executable, "dqn.py", "--seed", str(seed), *args], cwd=folder, capture_output=True, text=True)
    seconds = time.monotonic() - began
    assert process.returncode in (0, 1) and "Traceback" not in process.stderr, process.stderr
    scores = [int(score) for score in re.findall(r"score: (\d+)", process.stdout)]
    return folder, process.returncode == 0, scores, seconds


def middle(values, digits=0):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(*rows):
    for i, row in enumerate(rows):
        print("|", " | ".join(map(str, row)), "|", flush=True)
        if i == 0:
            print("|", " | ".join("---" for _ in row), "|")


def fresh(weights, games, limit, name="CartPole-v1"):
    """Scores of games without exploring that no training has seen, with the weights in a file."""
    sys.path.insert(0, str(ROOT))
    import dqn
    dqn.warnings.simplefilter("ignore")
    envs = [dqn.gym.make(name, max_episode_steps=limit, disable_env_checker=True) for _ in range(games)]
    for i, env in enumerate(envs):
        env.reset(seed=10 ** 6 + i)
    agent = dqn.DQNAgent(envs[0])
    agent.load(weights)
    return dqn.play(agent, envs)


def seeds(options):
    rows = []
    table(["seed", "solved", "games", "frames", "seconds", "v0: mean, worst of 100", "v1: mean, worst of 100",
           "5,000 frames: mean, perfect of 20"])
    for seed in options.seeds or range(20):
        folder, solved, scores, seconds = train(seed)
        weights = next(folder.glob("save/*.weights.h5"))
        v0, v1, long = fresh(weights, 100, 200, "CartPole-v0"), fresh(weights, 100, 500), fresh(weights, 20, 5000)
        rows.append((solved, len(scores), sum(scores), seconds, v1.mean(), (long == 5000).all()))
        print(f"| {seed} | {'yes' if solved else 'no'} | {len(scores)} | {sum(scores)} | {seconds:.1f} | {v0.mean():.1f}, "
              f"{v0.min()} | {v1.mean():.1f}, {v1.min()} | {long.mean():.0f}, {(long == 5000).sum()} |", flush=True)
        shutil.rmtree(folder)
    solved, games, frames, seconds, means, kept = zip(*rows)
    print(f"\n{sum(solved)} of {len(rows)} seeds solved; games {middle(games)}, frames {middle(frames)}, seconds "
          f"{middle(seconds, 1)}; {sum(mean >= 495 for mean in means)} with a mean of 495 or more over 100 fresh games, "
          f"{sum(kept)} kept the pole up for 5,000 frames in all of 20 games")


def shipped(options):
    weights = ROOT / "save/cartpole-dqn.weights.h5"
    scores, long = fresh(weights, 1000, 500), fresh(weights, 100, 5000)
    print(f"1,000 games: mean {scores.mean():.1f}, worst {scores.min()}; with a limit of 5,000 frames: "
          f"{(long == 5000).sum()} of 100 games last to the end, worst {long.min()}")


PEER = '''
import sys
import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

PLAY

class Player:
    def predict(self, states):
        with torch.no_grad():
            return model.q_net(torch.as_tensor(states)).numpy()

class Check(BaseCallback):
    def _on_step(self):
        if self.num_timesteps % 1000 == 0 and play(Player(), games[:10]).min() == 500 and play(Player(), games).min() == 500:
            model.save("peer")
            print("solved", self.num_timesteps)
            return False
        return True

seed = int(sys.argv[1])
games = [gym.make("CartPole-v1", disable_env_checker=True) for _ in range(100)]
for i, game in enumerate(games):
    game.reset(seed=seed + 1 + i)
model = DQN("MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, batch_size=64, buffer_size=100000, learning_starts=1000,
            gamma=0.99, target_update_interval=10, train_freq=256, gradient_steps=128, exploration_fraction=0.16,
            exploration_final_eps=0.04, policy_kwargs=dict(net_arch=[256, 256]), seed=seed, device="cpu")
model.learn(50_000, callback=Check())
'''


def peer(options):
    if not importlib.util.find_spec("stable_baselines3"):
        sys.exit("stable-baselines3 is not installed here: pip install stable-baselines3")
    play, = (ast.get_source_segment(SCRIPT, node) for node in ast.parse(SCRIPT).body if getattr(node, "name", "") == "play")
    ours, theirs, imports = [], [], []
    table(["seed", "dqn.py: seconds", "Stable-Baselines3: seconds", "import tensorflow: seconds"])
    for seed in options.seeds or range(5):
        folder, solved, scores, seconds = train(seed)
        assert solved
        ours.append(seconds)
        began = time.monotonic()
        process = subprocess.run([sys.executable, "-c", PEER.replace("PLAY", play), str(seed)], cwd=folder,
                                 capture_output=True, text=True, check=True)
        theirs.append(time.monotonic() - began)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import tensorflow"], capture_output=True, check=True)
        imports.append(time.monotonic() - began)
        print(f"| {seed} | {ours[-1]:.1f}, {len(scores)} games, {sum(scores)} frames | {theirs[-1]:.1f}, "
              f"{process.stdout.strip() or 'not solved in 50000'} frames | {imports[-1]:.1f} |", flush=True)
    print(f"| median (range) | {middle(ours, 1)} | {middle(theirs, 1)} | {middle(imports, 1)} |\n"
          f"\ndqn.py takes {statistics.median(ours) / statistics.median(theirs):.2f} of the peer's median time")


def ablation(options):
    table(["undone", "seeds solved", "games until solved, median (range)", "mean score of training games 51 to 100",
           "of the last 50", "100 fresh games of the best network"])
    for name, changes in ABLATION.items():
        script = edited(*changes)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            runs = list(pool.map(lambda seed: train(seed, script, ["--episodes", "500"]), options.seeds or range(10)))
        games = [len(scores) for _, solved, scores, _ in runs if solved]
        best = [fresh(next(folder.glob("save/*.weights.h5")), 100, 500).mean() for folder, *_ in runs]
        print(f"| {name} | {len(games)} of {len(runs)} | {middle(games) if games else 'none'} | "
              f"{middle([np.mean(scores[50:100] or 0) for _, _, scores, _ in runs])} | "
              f"{middle([np.mean(scores[-50:]) for _, _, scores, _ in runs])} | {middle(best)} |", flush=True)


def soak(options):
    script = edited(
        ("        if e % 2 == 0:\n", "        if False:\n"),
        ("        agent.replay(32)\n", "        import time; began = time.monotonic()\n        agent.replay(32)\n"
         "        took.append(time.monotonic() - began)\n"
         "        if e + 1 in (100, 1000, 3000): print('soak', e + 1, len(agent.memory), 1000 * np.median(took[-100:]), "
         "int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6, agent._compiled_replay.experimental_get_tracing_count())\n"),
        ("    # Iterate the game\n", "    took = []\n"))
    folder = Path(tempfile.mkdtemp())
    (folder / "dqn.py").write_text(script)
    process = subprocess.run([sys.executable, "dqn.py", "--episodes", "3000"], cwd=folder, capture_output=True, text=True)
    table(["game", "transitions in memory", "ms a replay, median of 100", "resident memory, MB", "traces"],
          *([word if i < 2 or i == 4 else f"{float(word):.0f}" for i, word in enumerate(line.split()[1:])]
            for line in process.stdout.splitlines() if line.startswith("soak")))


def calls(options):
    sys.path.insert(0, str(ROOT))
    import dqn
    agent = dqn.DQNAgent(dqn.gym.make("CartPole-v1"))
    rng = np.random.default_rng(0)

    def ms(call, repeat):
        call()
        took = []
        for _ in range(repeat):
            began = time.perf_counter()
            call()
            took.append(1000 * (time.perf_counter() - began))
        return f"{statistics.median(took):.3g}"

    def remember(count):
        for state in np.float32(rng.normal(size=(count, 1, 4))):
            agent.remember(state, np.int64(rng.integers(2)), 1.0, state, False)

    state, states = np.zeros((1, 4), "float32"), np.float32(rng.normal(size=(2, 32, 32, 4)))
    actions, rewards, dones = rng.integers(2, size=(32, 32)), np.float32(rng.normal(size=(32, 32))), np.zeros((32, 32), bool)
    batch = states[0], actions, rewards, states[1], dones, 0.99
    plain = dqn.tf.function(agent._replay)

    def literal():
        for state, action, reward, next_state in zip(states[0], actions, rewards, states[1]):
            target_f = agent.model.predict_on_batch(state)
            target_f[np.arange(32), action] = reward + 0.99 * agent.model.predict_on_batch(next_state).max(axis=1)
            agent.model.train_on_batch(state, target_f)

    table(["call", "ms, median"],
          ["the values of one state: model.predict", ms(lambda: agent.model.predict(state, verbose=0), 20)],
          ["the values of one state: model.predict_on_batch", ms(lambda: agent.model.predict_on_batch(state), 200)],
          ["the values of one state: agent.predict", ms(lambda: agent.predict(state), 2000)],
          ["the loop of a replay: predict_on_batch and train_on_batch", ms(literal, 10)],
          ["the loop of a replay: tf.function", ms(lambda: plain(*batch), 40)],
          ["the loop of a replay: tf.function with jit_compile, as in dqn.py", ms(lambda: agent._compiled_replay(*batch), 40)])
    for count in 5_000, 495_000:
        remember(count)
        print(f"| agent.replay(32), {len(agent.memory):,} transitions in memory | {ms(lambda: agent.replay(32), 40)} |")


def phases(options):
    """Of the games of the training, how many ended because the pole fell, the cart left the track, or time was up."""
    table(["games", "pole fell", "cart left the track", "time was up", "mean score"])
    ends = []
    for seed in options.seeds or range(5):
        folder, solved, scores, seconds = train(seed, edited(DUMP))
        memory, scores = pickle.load(open(folder / "dump", "rb"))
        for game, (last, score) in enumerate(zip(np.cumsum(scores) - 1, scores)):
            state, done = memory[last][3][0], memory[last][4]
            ends.append((game, "time" if not done else "track" if abs(state[0]) > 2.4 else "pole", score))
    for first, last in (0, 10), (10, 25), (25, 50), (50, 75), (75, 100), (100, 150), (150, 200), (200, 1000):
        some = [end for game, end, _ in ends if first <= game < last]
        if some:
            print(f"| {first} to {last - 1} |", *(f"{some.count(end) / len(some):.0%} |" for end in ("pole", "track", "time")),
                  f"{np.mean([score for game, _, score in ends if first <= game < last]):.0f} |", flush=True)


def pictures(options):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for script, color, label in (edited(), "C0", "dqn.py"), (edited(*THE_POST), "C3", "the post's settings"):
        for i, seed in enumerate(options.seeds or range(5)):
            scores = train(seed, script, ["--episodes", "500"])[2]
            means = [np.mean(scores[max(0, game - 19):game + 1]) for game in range(len(scores))]
            axes.plot(means, color=color, alpha=0.7, label=f"{label}: 5 seeds, a dot where a run ended" if i == 0 else None)
            axes.plot(len(means) - 1, means[-1], "o", color=color)
    axes.set(xlabel="game", ylabel="score (frames survived),\nmean of the last 20 games", xlim=0, ylim=(0, 500))
    axes.legend()
    figure.savefig(ROOT / "save/learning-curves.png", dpi=100)
    keep = "".join(f"        if e == {game}: agent.save('{name}.weights.h5')\n" for game, name in ((4, "early"), (100, "midway")))
    folder, *_ = train(0, edited(("        agent.replay(32)\n", "        agent.replay(32)\n" + keep)))
    shutil.copy(folder / "save/cartpole-dqn.weights.h5", folder / "end.weights.h5")
    for name in "early", "midway", "end":
        subprocess.run([sys.executable, "dqn.py", "--watch", "--weights", f"{name}.weights.h5", "--gif",
                        ROOT / f"save/player-{name}.gif"], cwd=folder, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {part.__name__: part for part in (seeds, shipped, peer, ablation, soak, calls, phases, pictures)}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: 0 to 19 for seeds, 0 to 9 for ablation, else 0 to 4")
    options = parser.parse_args()
    parts[options.part](options)
