"""The training runs behind README.md. tests/pictures.py makes its pictures and tables of them.

    python tests/benchmark.py               all of them, some hours
    python tests/benchmark.py burst         only these; or seeds, experiment, shipped, acrobot

A run is `python dqn.py` with a few lines changed, as you could change them in an editor. Two run at
a time. Each adds a line to a file in tests/results/, and a run that is there is not made again.
"""
import concurrent.futures
import csv
import multiprocessing
import os
import re
import shutil
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

NO_STOP = [(  # an exam after game 400, which changes nothing: what print returns is false
    "exam_due = len(scores) >= 100 and mean >= 475",
    "exam_due = e == 399 and print('exam:', sit_exam(agent, exam))")]
ALL_MEMORY = [("deque(maxlen=2000)", "[]")]
GAMMA_9 = [("self.gamma = 0.99", "self.gamma = 0.9")]
POST_RATE = [("self.learning_rate = 0.001", "self.learning_rate = 0.0001")]
AFTER_WINS = [("if terminated or exam_due:", "if True:")]
CLOCK_IS_LOSS = [
    ("reward = -100 if terminated else", "reward = -100 if terminated or truncated else"),
    ("reward, next_state, terminated)", "reward, next_state, terminated or truncated)")]
STEP_FOR_EACH = [(  # as in the post, where each step also moves the targets of the rest
    "        self.model.train_on_batch(states, target_f)\n"
    "        self.weights = self.model.get_weights()",
    "            self.model.train_on_batch(states[row:row + 1], target_f[row:row + 1])\n"
    "            self.weights = self.model.get_weights()\n"
    "            future, target_f = self.predict(next_states), self.predict(states)")]

TARGET_NETWORK = [
    ("        self.model = model\n", "        self.model = model\n"
     "        self.target_model = keras.models.clone_model(model)\n"),
    ("future = self.predict(next_states)",
     "future = self.target_model.predict_on_batch(next_states)"),
    ("            for _ in range(64):",
     "            agent.target_model.set_weights(agent.weights)\n            for _ in range(64):")]
BOTH_HELD = TARGET_NETWORK + [  # the value of the action that was not taken, too
    ("target_f = self.predict(states)", "target_f = self.target_model.predict_on_batch(states)")]
SMALLER_STEPS = [
    ("RMSprop(learning_rate=self.learning_rate)", "RMSprop(learning_rate=.002, epsilon=1)")]
DOUBLE = TARGET_NETWORK + [
    ("        for row, i in enumerate(batches):",
     "        best = np.argmax(self.predict(next_states), axis=1)\n"
     "        for row, i in enumerate(batches):"),
    ("np.amax(future[row])", "future[row][best[row]]")]
ONE_REPLAY = [("range(64)", "range(1)")]


def decay(value):
    return [("self.epsilon_decay = .995", f"self.epsilon_decay = {value}")]


def replays(count):
    """So many replays after a lost game, which lower epsilon as much as 64 do."""
    return [("range(64)", f"range({count})"), *decay(f".995 ** (64 / {count})")]


OURS, POST = "dqn.py as it is", "all of these: the post"
SHRINKING = "after wins, `RMSprop(learning_rate=.002, epsilon=1)`"
ON_V0 = CLOCK_IS_LOSS + [("'CartPole-v1', render_mode=None", "'CartPole-v0'")]
ROWS = {  # name: what is changed, and on which seeds, less 21000
    OURS: ([], range(40)),
    "one replay after a loss, `epsilon` as fast": (replays(1), range(20)),
    "`learning_rate` .0001": (POST_RATE, range(20)),
    "`gamma` .9": (GAMMA_9, range(20)),
    "replays after won games, too": (AFTER_WINS, range(20)),
    "a memory of everything": (ALL_MEMORY, range(20, 40)),
    "after wins, a memory of everything": (AFTER_WINS + ALL_MEMORY, range(10)),
    "after wins, a target network": (AFTER_WINS + TARGET_NETWORK, range(10)),
    "after wins, all of `target_f` from a target network": (AFTER_WINS + BOTH_HELD, range(10)),
    SHRINKING: (AFTER_WINS + SMALLER_STEPS, range(10)),
    "8 replays after a loss, `epsilon` as fast": (replays(8), range(10)),
    "16 replays after a loss, `epsilon` as fast": (replays(16), range(10)),
    "32 replays after a loss, `epsilon` as fast": (replays(32), range(10)),
    "`gamma` 1": ([("self.gamma = 0.99", "self.gamma = 1")], range(10)),
    "`epsilon` falls once a lost game": (decay(".995 ** (1 / 64)"), range(20)),
    "time that is up is a loss": (CLOCK_IS_LOSS, range(40)),
    POST: (ONE_REPLAY + STEP_FOR_EACH + POST_RATE + GAMMA_9 + AFTER_WINS + ALL_MEMORY + ON_V0,
           range(20)),
    "the post, with one step of .001 a replay": (
        ONE_REPLAY + GAMMA_9 + AFTER_WINS + ALL_MEMORY + ON_V0, range(10)),
    "the same, and 64 replays": (GAMMA_9 + AFTER_WINS + ALL_MEMORY + ON_V0, range(10)),
    "the same, and `gamma` .99": (ONE_REPLAY + AFTER_WINS + ALL_MEMORY + ON_V0, range(10)),
    "the same, and no replay after won games": (
        ONE_REPLAY + GAMMA_9 + ALL_MEMORY + ON_V0, range(10)),
    "the same, and a memory of 2,000": (ONE_REPLAY + GAMMA_9 + AFTER_WINS + ON_V0, range(10)),
    "`relu`": ([("'tanh'))", "'relu'))")], range(10)),
    "a target network": (TARGET_NETWORK, range(20)),
    "Double DQN": (DOUBLE, range(10)),
    "a step for each frame, `learning_rate` .0001": (STEP_FOR_EACH + POST_RATE, range(3)),
}
RULES = "as it is", "smaller steps", "target network", "all held"
BURST = [("    save_curve(scores,", """\
    # In the end, replay 64 times in a row, ten times from the same weights and the same memory
    frames = np.vstack([frame[0] for frame in agent.memory])
    solved_weights, older = agent.weights, copy.copy(agent)
    velocities = [variable.numpy() for variable in agent.model.optimizer.variables[2:]]

    before = agent.predict(frames)
    gap = before[:, 1] - before[:, 0]  # how much more a push to the right is worth
    print(f"gap: {np.median(np.abs(gap)):.3f}, Q: {np.median(before):.1f}")

    def older_once(states):  # answers the first question of a replay, which makes the targets
        del agent.predict
        return older.predict(states)

    for rule in RULES:
        agent.model.compile(loss='mse', optimizer=RMSprop(learning_rate=.002, epsilon=1)
                            if rule == "smaller steps" else RMSprop(learning_rate=.001))
        optimizer = agent.model.optimizer
        optimizer.build(agent.model.trainable_variables)
        for draw in range(10):
            np.random.seed(draw)
            agent.model.set_weights(solved_weights)
            agent.weights = solved_weights
            for variable, velocity in zip(optimizer.variables[2:], velocities, strict=True):
                variable.assign(velocity)
            for n in range(1, 65):
                if rule == "target network":
                    agent.predict = older_once
                if rule == "all held":  # the values of actions not taken, too
                    agent.predict = older.predict
                agent.replay(32)
                agent.__dict__.pop("predict", None)
                if n in (1, 8, 64):
                    print(f"{rule}, won after {n}: {sit_exam(agent, exam)}")
            after = agent.predict(frames)
            new_gap = after[:, 1] - after[:, 0]
            print(f"{rule}, rose: {np.median(after - before):.1f}")
            print(f"{rule}, moved: {np.median(np.abs(new_gap - gap)):.3f}")
            print(f"{rule}, turned: {np.mean((new_gap > 0) != (gap > 0)):.3f}")
    save_curve(scores,""")]
WITH_LOSSES = "dqn.py as it is, its latest 2,000 frames of lost games put back"
LOSSES_BACK = [  # before the bursts: a game's frames are told by the scores
    ("        self.memory = deque(", "        self.everything = []\n        self.memory = deque("),
    ("        self.memory.append((", "        self.everything.append("
     "(state, action, reward, next_state, done))\n        self.memory.append(("),
    ("    solved_weights, older =", """\
    lost = [frame for end, score in zip(np.cumsum(scores), scores) if score < 500
            for frame in agent.everything[end - score:end]]
    agent.memory = [*agent.memory, *lost[-2000:]]
    solved_weights, older =""")]

STAGE = """\
{0}agent.save(f"stage{{len(scores):04}}.weights.h5")
{0}np.save(f"stage{{len(scores):04}}", np.vstack([frame[0] for frame in agent.memory][-300:]))
"""
STAGES = [
    ("        if len(scores) % 10 == 0:\n",
     "        if len(scores) in (5, 40):\n" + STAGE.format(12 * " ")
     + "        if len(scores) % 10 == 0:\n"),
    ("    save_curve(scores,", STAGE.format(4 * " ") + "    save_curve(scores,")]
# States with the cart at rest in the middle: angles of -12 to 12 degrees, and angular velocities
ANGLES, VELOCITIES = np.linspace(-12, 12, 61), np.linspace(-2.5, 2.5, 51)
UPRIGHT = np.array([(0, 0, angle, velocity)
                    for velocity in VELOCITIES for angle in np.radians(ANGLES)])
ACROBOT = AFTER_WINS + [
    ("exam_due = len(scores) >= 100 and mean >= 475", "exam_due = False"),
    ("gym.make('CartPole-v1'", "gym.make('Acrobot-v1'"), ("shape=(4,)", "shape=(6,)"),
    ("[1, 4]", "[1, 6]"), ("Dense(2,", "Dense(3,"),
    ("            reward = -100 if terminated else reward  # post: if done\n", ""),
    *decay(".9999")]


def patched(patches):
    """The text of dqn.py with the patches."""
    text = (ROOT / "dqn.py").read_text()
    for old, new in patches:
        assert old in text, f"{old!r} is not in dqn.py"
        text = text.replace(old, new)
    return text


def numbers_in(stdout, name):
    """The numbers that follow `name: ` in what a run prints, with blanks between them."""
    return " ".join(re.findall(rf"{name}: (-?[\d.]+)", stdout))


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
    envs.reset(seed=2 * 10 ** 6)
    return dqn.sit_exam(agent, envs)


# The parts. Each returns the columns that follow the run's own arguments in its file

def seeds(seed):
    """dqn.py as it is; its exams, and how many of 100 new games its player wins."""
    stdout, seconds, won = train([], seed)
    return dict(solved="\nsolved after" in stdout, games=stdout.count("episode:"),
                exams=stdout.count("exam:"), seconds=round(seconds, 1), won=won)


def experiment(changed, seed):
    """A row of ROWS, without a stop; how many games it wins without exploring after game 400."""
    stdout, *_ = train(NO_STOP + ROWS[changed][0], seed, 600 if changed == OURS else 400)
    return dict(won=numbers_in(stdout, "exam"), scores=numbers_in(stdout, "score"))


def burst(changed, seed):
    """64 replays of a solved player on its own memory, by four rules, ten times each.

    Or by one rule, with frames of lost games put back into its memory. Or of the agent of another
    row after game 400, by two rules, and the games that it wins before.
    """
    loop, rules = "    for rule in RULES:\n", {OURS: RULES, WITH_LOSSES: RULES[:1]}
    patches = BURST + [(loop, loop.replace("RULES", str(rules.get(changed, RULES[:2]))))]
    if changed == WITH_LOSSES:
        patches += LOSSES_BACK
    elif changed != OURS:
        patches += ROWS[changed][0] + NO_STOP + [
            ("    before =", "    print('won before:', sit_exam(agent, exam))\n    before =")]
    stdout, *_ = train(patches, seed, 1000 if changed in rules else 400)
    columns = "won before", "gap", "Q", *(
        f"{rule}, {name}" for rule in RULES
        for name in ("won after 1", "won after 8", "won after 64", "rose", "moved", "turned"))
    return {name: numbers_in(stdout, name) for name in columns}


def shipped():
    """python dqn.py, which makes the player in save/; how many of 1,000 new games it wins.

    On the way, an animation of the agent after 5 games, 40 and all, and what pictures.py draws of
    its network: both Q values over angle and angular velocity, and the last 300 states.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "dqn.py").write_text(patched(STAGES))
        run = subprocess.run([sys.executable, "dqn.py"], cwd=folder, capture_output=True, text=True)
        for file in PLAYER.name, PLAYER.name.replace("weights.h5", "png"):
            shutil.copy(Path(folder, "save", file), ROOT / "save")
        looks = {}
        for name, file in zip(("early", "midway", "end"), sorted(Path(folder).glob("*.npy"))):
            weights = file.with_suffix(".weights.h5")
            subprocess.run([sys.executable, "dqn.py", "--weights", weights,
                            "--gif", ROOT / f"save/player-{name}.gif"], cwd=folder, check=True)
            looks[f"{name} states"] = np.load(file)
            looks[f"{name} Q"] = agent_with(weights).predict(UPRIGHT).astype("float32")
    np.savez_compressed(ROOT / "tests/results/shipped.npz", **looks)
    return dict(won=won_of(agent_with(PLAYER), 1000), stdout=run.stdout)


def acrobot(seed):
    """Another environment, with a few edits, for 300 games."""
    stdout, *_ = train(ACROBOT, seed, 300)
    return dict(scores=numbers_in(stdout, "score"))


PARTS = {  # part: the arguments of its runs. Nothing was chosen on these seeds
    seeds: [dict(seed=21000 + n) for n in range(60)],
    experiment: [dict(changed=row, seed=21000 + n) for n in range(40)
                 for row, (_, some) in ROWS.items() if n in some],
    burst: [*(dict(changed=row, seed=21000 + n) for row in (OURS, WITH_LOSSES) for n in range(20)),
            *(dict(changed=SHRINKING, seed=21000 + n) for n in range(10))],
    shipped: [{}],
    acrobot: [dict(seed=21000 + n) for n in range(5)],
}


def read(part):
    """The lines of a part's file, dictionaries of strings; none if there is no file."""
    file = ROOT / f"tests/results/{part}.csv"
    return list(csv.DictReader(file.open())) if file.exists() else []


def complete(part):
    """Make the runs that are missing in the part's file, each in a new process, two at a time."""
    name, done = part.__name__, read(part.__name__)
    jobs = [job for job in PARTS[part] if not any(
        all(line[key] == str(job[key]) for key in job) for line in done)]
    print(f"{name}: {len(jobs)} of {len(PARTS[part])} runs to make; to make all of them again, "
          f"delete tests/results/{name}.csv", file=sys.stderr)
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        runs = {pool.submit(part, **job): job for job in jobs}
        for run in concurrent.futures.as_completed(runs):
            line = {**runs[run], **run.result()}
            with (ROOT / f"tests/results/{name}.csv").open("a", newline="") as file:
                table = csv.DictWriter(file, line, lineterminator="\n")
                if file.tell() == 0:
                    table.writeheader()
                table.writerow(line)
            print(name, *runs[run].values(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    for part in PARTS:
        if part.__name__ in (sys.argv[1:] or [part.__name__]):
            complete(part)
