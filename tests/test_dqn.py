"""Does the agent of dqn.py do what the post says, and does the script keep its promises?

Whatever the script does as a program is tested by running it as one, in a temporary folder. Where a test needs
the script to be a little different (a time limit of nine frames, a learning rate that explodes), it runs a copy
with that one place edited: `edited` fails if the place is no longer there.
"""
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import dqn  # noqa: E402

SCRIPT = (ROOT / "dqn.py").read_text()
LINE = re.compile(r"episode: \d+/\d+, score: \d+, epsilon: [01]\.\d\d")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
for name in "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR", "KERAS_BACKEND":
    ENVIRONMENT.pop(name, None)


@pytest.fixture
def folder(tmp_path):
    """A folder with a copy of the script, as if just cloned, its name not free of blanks."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "dqn.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def agent():
    dqn.keras.utils.set_random_seed(0)
    return dqn.DQNAgent(dqn.gym.make("CartPole-v1"))


def edited(script, *changes):
    for old, new in changes:
        assert script.count(old) == 1, f"{old!r} stands {script.count(old)} times in dqn.py"
        script = script.replace(old, new)
    return script


def start(folder, *args, python=(), **environment):
    return subprocess.Popen([sys.executable, *python, folder / "dqn.py", *args], cwd=folder, text=True,
                            env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(folder, *args, **environment):
    """Run the script to its end; returns its exit code, the lines on stdout and those on stderr."""
    process = start(folder, *args, **environment)
    out, err = process.communicate(timeout=540)
    assert "Traceback" not in err, err
    return process.returncode, out.splitlines(), err.splitlines()


def shipped(folder):
    """The weights that the repository ships, even if the working copy has been trained anew; put where they belong."""
    path = folder / "save" / "cartpole-dqn.weights.h5"
    path.parent.mkdir(exist_ok=True)
    git = subprocess.run(["git", "show", "HEAD:save/cartpole-dqn.weights.h5"], cwd=ROOT, capture_output=True)
    path.write_bytes(git.stdout if git.returncode == 0 else (ROOT / "save/cartpole-dqn.weights.h5").read_bytes())
    return path


def scores(weights, games=100, limit=500, seed=10 ** 6):
    """Scores of greedy games with the weights in a file, none of them played in training or its checks."""
    envs = [dqn.gym.make("CartPole-v1", max_episode_steps=limit, disable_env_checker=True) for _ in range(games)]
    for i, env in enumerate(envs):
        env.reset(seed=seed + i)
    agent = dqn.DQNAgent(envs[0])
    agent.load(weights)
    return dqn.play(agent, envs)


def transition(rng, done=False, reward=1.0, action=None):
    state, next_state = np.float32(rng.normal(size=(2, 1, 4)))
    return state, np.int64(rng.integers(2) if action is None else action), reward, next_state, done


# The agent


def test_has_what_the_post_names(agent):
    for name in "env memory gamma epsilon epsilon_decay epsilon_min learning_rate model".split():
        assert hasattr(agent, name)
    assert [layer.units for layer in agent.model.layers] == [128, 128, 128, 2]
    assert [layer.activation.__name__ for layer in agent.model.layers] == ["tanh", "tanh", "tanh", "linear"]
    assert agent.model.loss == "mse" and type(agent.model.optimizer).__name__ == "RMSprop"
    assert (agent.epsilon, agent.epsilon_min, agent.memory) == (1, 0.1, [])


def test_act_explores_at_epsilon_1_and_is_greedy_at_0(agent):
    states = np.float32(np.random.default_rng(1).normal(size=(200, 1, 4)))
    best = [np.argmax(agent.model(state).numpy()[0]) for state in states]
    assert len(set(best)) == 2
    agent.epsilon = 1
    explored = [agent.act(states[0]) for _ in range(1000)]
    assert 400 < sum(explored) < 600
    agent.epsilon = 0
    assert [agent.act(state) for state in states] == best
    agent.epsilon = 0.1  # a tenth at random, half of which would have been the best anyway
    assert 0.9 < np.mean([agent.act(states[0]) == best[0] for _ in range(2000)]) < 0.99


def test_remember_keeps_every_transition(agent):
    rng = np.random.default_rng(2)
    transitions = [transition(rng, done=i % 7 == 0) for i in range(5000)]
    for each in transitions:
        agent.remember(*each)
    assert len(agent.memory) == 5000
    assert all(ours is theirs for kept, each in zip(agent.memory, transitions) for ours, theirs in zip(kept, each))


def test_replay_targets_are_the_posts_formula(agent):
    """The post, one sample at a time: target = reward, and if not done, + gamma * amax(model.predict(next_state)[0])."""
    rng = np.random.default_rng(3)
    died = [transition(rng, done=True, reward=-100) for _ in range(20)]
    survived = [transition(rng) for _ in range(20)]  # what is remembered of a game cut off by the clock looks like this
    literal = {}
    for state, action, reward, next_state, done in died + survived:
        agent.remember(state, action, reward, next_state, done)
        target = reward
        if not done:
            target = reward + agent.gamma * np.amax(agent.model.predict(next_state, verbose=0)[0])
        target_f = agent.model.predict(state, verbose=0)
        target_f[0][action] = target
        literal[state.tobytes()] = target_f[0]
    trained = []
    agent.model.train_step = lambda data: trained.append([np.asarray(array) for array in data])  # and nothing is learnt
    agent._compiled_replay = agent._replay
    agent.replay(32)
    assert [state.shape for state, _ in trained] == [(32, 4)] * agent.minibatches
    seen = {state.tobytes() for states, _ in trained for state in states}
    assert len(seen) == 40
    for states, targets in trained:
        for state, target_f in zip(states, targets):
            np.testing.assert_allclose(target_f, literal[state.tobytes()], rtol=1e-5, atol=1e-5)


def test_the_compiled_replay_does_what_plain_keras_calls_do(agent):
    rng = np.random.default_rng(4)
    states, next_states = np.float32(rng.normal(size=(2, 20, 32, 4)))
    actions, rewards = rng.integers(2, size=(20, 32)), np.float32(rng.normal(size=(20, 32)))
    dones = rng.random((20, 32)) < 0.3
    plain = dqn.DQNAgent(agent.env).model
    plain.set_weights(agent.model.get_weights())
    for state, action, reward, next_state, done in zip(states, actions, rewards, next_states, dones):
        target_f = plain.predict_on_batch(state)
        target_f[np.arange(32), action] = reward + np.where(done, 0, 0.99 * plain.predict_on_batch(next_state).max(axis=1))
        plain.train_on_batch(state, target_f)
    agent._compiled_replay(states, actions, rewards, next_states, dones, 0.99)
    for ours, theirs in zip(agent.model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(agent.model.get_weights()[2] - agent.weights[2]).max() > 0.01  # and it did go somewhere


def test_only_the_output_of_the_action_taken_is_pulled(agent):
    rng = np.random.default_rng(5)
    for _ in range(100):
        agent.remember(*transition(rng, action=0))
    before = agent.model.get_weights()
    agent.replay(32)
    after = agent.model.get_weights()
    assert np.array_equal(before[-2][:, 1], after[-2][:, 1]) and before[-1][1] == after[-1][1]
    assert not np.array_equal(before[-2][:, 0], after[-2][:, 0]) and before[-1][0] != after[-1][0]


def test_targets_move_with_the_network_as_in_the_post(agent):
    """A state that leads to itself with reward 1: fixed targets would take its value to 1 + gamma * the old one only."""
    state = np.float32([[0.1, 0.2, 0.3, 0.4]])
    agent.remember(state, 1, 1.0, state, False)
    agent.minibatches = 500
    before = agent.predict(state).max()
    agent.replay(32)
    assert agent.predict(state)[0][1] > 1 + agent.gamma * before + 1


def test_replay_learns_the_values_of_a_world_of_two_states(agent):
    """From state A, action 0 ends the game with 2, action 1 leads to B with 0; from B every action ends it with 10."""
    a, b = np.float32([[1, 0, 0, 0]]), np.float32([[0, 1, 0, 0]])
    for each in (a, 0, 2, b, True), (a, 1, 0, b, False), (b, 0, 10, a, True), (b, 1, 10, a, True):
        agent.remember(*each)
    values = []
    for _ in range(80):  # RMSprop's steps do not shrink, so the values tremble: take their mean
        agent.replay(32)
        values.append(agent.predict(np.concatenate([a, b])))
    np.testing.assert_allclose(np.mean(values[40:], axis=0), [[2, 0.99 * 10], [10, 10]], atol=0.3)


def test_predict_is_model_predict_also_after_replay_and_load(agent, tmp_path):
    rng = np.random.default_rng(6)
    states = np.float32(rng.normal(size=(50, 4)))
    agent.save(tmp_path / "before.weights.h5")
    seen = []
    for change in (lambda: None, lambda: agent.remember(*transition(rng)) or agent.replay(32),
                   lambda: agent.load(tmp_path / "before.weights.h5"), agent._build_model):
        change()
        seen.append(agent.predict(states))
        np.testing.assert_allclose(seen[-1], agent.model.predict(states, verbose=0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(seen[0], seen[1]) and np.array_equal(seen[0], seen[2]) and not np.allclose(seen[2], seen[3])


def test_epsilon_decays_to_its_floor(agent):
    agent.remember(*transition(np.random.default_rng(7)))
    agent._compiled_replay = lambda *args: None
    agent.replay(32)
    assert agent.epsilon == pytest.approx(0.98)
    for _ in range(200):
        agent.replay(32)
    assert agent.epsilon == agent.epsilon_min == 0.1


def test_replay_of_an_empty_memory_does_nothing_and_a_short_one_will_do(agent):
    before = agent.model.get_weights()
    agent.replay(32)
    assert agent.epsilon == 1 and all(map(np.array_equal, before, agent.model.get_weights()))
    agent.remember(*transition(np.random.default_rng(8), reward=5.0, done=True))
    agent.replay(32)
    state, action, *_ = agent.memory[0]
    assert agent.predict(state)[0][action] == pytest.approx(5, abs=0.5)


def test_replay_says_when_training_diverges(agent):
    agent.remember(*transition(np.random.default_rng(9), reward=np.nan))
    with pytest.raises(FloatingPointError, match="NaN"):
        agent.replay(32)


def test_save_and_load_are_bit_exact(agent, tmp_path):
    agent.remember(*transition(np.random.default_rng(10)))
    agent.replay(32)
    agent.save(tmp_path / "x.weights.h5")
    other = dqn.DQNAgent(agent.env)
    other.load(str(tmp_path / "x.weights.h5"))
    assert all(map(np.array_equal, agent.model.get_weights(), other.model.get_weights()))
    assert all(map(np.array_equal, agent.weights, other.weights))
    assert os.listdir(tmp_path) == ["x.weights.h5"]


def test_a_failed_load_leaves_the_agent_as_it_was(agent, tmp_path):
    other = dqn.keras.Sequential([dqn.keras.Input((4,)), dqn.Dense(128), dqn.Dense(64), dqn.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    before = agent.weights
    with pytest.raises(OSError, match="other.weights.h5: not this network's"):
        agent.load(tmp_path / "other.weights.h5")
    for weights in agent.weights, agent.model.get_weights():
        assert all(map(np.array_equal, before, weights))


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Pendulum-v1"])
def test_other_kinds_of_environment_are_refused(name):
    env = dqn.gym.make(name)
    with pytest.raises(ValueError, match="discrete actions.*" + re.escape(str(env.action_space))):
        dqn.DQNAgent(env)


def test_actions_that_do_not_start_at_0_are_refused():
    env = dqn.gym.make("CartPole-v1")
    env.action_space = dqn.gym.spaces.Discrete(2, start=1)
    with pytest.raises(ValueError, match="from 0"):
        dqn.DQNAgent(env)


def test_other_games_are_welcome():
    agent = dqn.DQNAgent(dqn.gym.make("Acrobot-v1"))
    state = np.reshape(agent.env.reset(seed=0)[0], [1, -1])
    agent.remember(state, 2, -1.0, state, False)
    agent.replay(32)
    assert agent.model.output_shape == (None, 3) and agent.act(state) in (0, 1, 2)


# The script


def test_importing_starts_nothing():
    code = "import signal, sys; before = sys.stderr, signal.getsignal(2); import dqn; " \
           "assert before == (sys.stderr, signal.getsignal(2)); print('silence', file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "silence\n")


def test_an_error_while_importing_shows(folder):
    (folder / "numpy.py").write_text("raise ImportError('this numpy is broken')")
    process = start(folder)
    assert "this numpy is broken" in process.communicate()[1] and process.returncode == 1


def test_shipped_weights_play_perfectly(tmp_path):
    assert scores(shipped(tmp_path)).tolist() == [500] * 100


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the script as a stranger's first one."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "dqn.py").write_text(SCRIPT)
    return folder, *run(folder)


def test_training_from_scratch_ends_solved_and_prints_nothing_but_its_own_lines(trained):
    folder, code, out, err = trained
    assert (code, err) == (0, [])
    assert all(map(LINE.fullmatch, out[:-1])) and re.match(r"solved after \d+ games: 100 of 100 games", out[-1])
    assert [line.split()[1] for line in out[:-1]] == [f"{e}/1000," for e in range(len(out) - 1)]
    assert sorted(os.listdir(folder / "save")) == ["cartpole-dqn.png", "cartpole-dqn.weights.h5"]


def test_the_trained_player_plays_perfectly(trained):
    result = scores(trained[0] / "save/cartpole-dqn.weights.h5")
    assert result.mean() >= 495 and np.median(result) == 500  # 100 games it was not selected by: one may fail


def test_the_learning_curve_is_a_picture(trained):
    picture = np.asarray(Image.open(trained[0] / "save/cartpole-dqn.png").convert("RGB"))
    assert picture.shape[1] >= 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_training_on_v0_masters_v1_too(folder):
    code, out, err = run(folder, "--env", "CartPole-v0")
    assert (code, err) == (0, []) and max(int(line.split()[3][:-1]) for line in out[:-1]) == 200
    assert scores(folder / "save/cartpole-dqn.weights.h5").mean() >= 495


def test_same_seed_same_lines_same_weights_and_another_seed_others(folder):
    runs = [run(folder, "--episodes", "12", "--seed", seed, "--weights", f"{i}/x.weights.h5")
            for i, seed in enumerate("778")]
    (one,), (two,), (three,) = ([line for line in sorted(folder.glob(f"{i}/*.h5"))] for i in range(3))
    lines = [out for code, out, err in runs]
    assert len(lines[0]) == 12 and lines[0] == lines[1] != lines[2]
    agents = [dqn.DQNAgent(dqn.gym.make("CartPole-v1")) for _ in range(3)]
    for agent, name in zip(agents, (one, two, three)):
        agent.load(name)
    assert all(map(np.array_equal, agents[0].weights, agents[1].weights))
    assert not any(map(np.array_equal, agents[0].weights, agents[2].weights))


def test_time_limit_is_no_death_and_the_replay_is_traced_once(folder):
    """In games cut off after 9 frames, before a pole can fall, nobody dies; in others everybody does, once."""
    dump = ("    agent.save(", "    import pickle; pickle.dump((agent.memory, agent._compiled_replay.experimental_get_tracing_count(),"
            " scores), open('dump', 'wb'))\n    agent.save(")
    (folder / "dqn.py").write_text(edited(SCRIPT, dump, ("    agent = DQNAgent(env)\n",
                                   "    env._max_episode_steps = 5\n    agent = DQNAgent(env)\n")))
    run(folder, "--episodes", "12")
    memory, traces, lengths = np.load(folder / "dump", allow_pickle=True)
    assert traces == 1 and lengths == [5] * 12 and len(memory) == 60
    assert all(reward == 1 and not done for _, _, reward, _, done in memory)
    (folder / "dqn.py").write_text(edited(SCRIPT, dump))
    run(folder, "--episodes", "12")
    memory, traces, lengths = np.load(folder / "dump", allow_pickle=True)
    assert traces == 1 and max(lengths) < 500 and len(memory) == sum(lengths)
    ends = np.cumsum(lengths) - 1
    assert [i for i, (_, _, _, _, done) in enumerate(memory) if done] == ends.tolist()
    assert all(reward == (-100 if done else 1) for _, _, reward, _, done in memory)


def test_a_run_that_does_not_get_there_keeps_the_best_and_leaves_the_solution(folder):
    solution = shipped(folder).read_bytes()
    code, out, err = run(folder, "--episodes", "3")
    assert code == 1 and len(out) == 3 and len(err) == 1 and "not solved" in err[0]
    assert (folder / "save/cartpole-dqn.weights.h5").read_bytes() == solution
    best, = folder.glob("save/*best*.weights.h5")
    assert str(best) in err[0] and scores(best, games=10).mean() < 500


def test_watch_writes_an_animation(folder):
    shipped(folder)
    code, out, err = run(folder, "--watch", "--gif", "play it.gif")
    assert (code, out, err) == (0, ["episode: 0/1, score: 500"], [])
    with Image.open(folder / "play it.gif") as gif:
        assert gif.size == (600, 400) and gif.n_frames > 100 and gif.info["loop"] == 0
        first = np.asarray(gif.convert("RGB")).astype(int)
        gif.seek(gif.n_frames // 2)
        moved = np.abs(first - np.asarray(gif.convert("RGB"))).max(axis=2) > 50
        assert 50 < moved.sum() < 20_000  # the cart and the pole, not the whole picture
    assert (folder / "play it.gif").stat().st_size < 1_000_000


def test_watch_plays_in_a_window(folder):
    shipped(folder)
    began = time.monotonic()
    code, out, err = run(folder, "--watch", "--episodes", "2", "--env", "CartPole-v0", SDL_VIDEODRIVER="dummy")
    assert (code, out, err) == (0, ["episode: 0/2, score: 200", "episode: 1/2, score: 200"], [])
    assert time.monotonic() - began > 2 * 200 / 50  # at the game's own speed, 50 frames a second


def test_render_shows_the_training(folder):
    code, out, err = run(folder, "--render", "--episodes", "2", SDL_VIDEODRIVER="dummy")
    assert code == 1 and len(out) == 2 and len(err) == 1


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
def test_a_real_window_opens_plays_and_closes_quietly(folder):
    xlib = pytest.importorskip("Xlib.display", reason="python-xlib is not installed")
    from Xlib.protocol.event import ClientMessage
    shipped(folder)
    server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        name = ":" + server.stdout.readline().strip()
        process = start(folder, "--watch", "--env", "CartPole-v0", DISPLAY=name)
        assert process.stdout.readline() == "episode: 0/1000, score: 200\n"
        display = xlib.Display(name)
        window, = display.screen().root.query_tree().children
        picture = window.get_image(0, 0, 600, 400, 2, 0xffffffff)  # 2: the format ZPixmap
        colours, counts = np.unique(np.frombuffer(picture.data, "uint32") & 0xffffff, return_counts=True)
        assert colours[np.argmax(counts)] == 0xffffff and 0xca9865 in colours  # the sky, and the pole
        close = [display.intern_atom("WM_DELETE_WINDOW"), 0, 0, 0, 0]  # what a click on the window's cross sends
        window.send_event(ClientMessage(window=window, client_type=display.intern_atom("WM_PROTOCOLS"), data=(32, close)))
        display.flush()
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
    finally:
        server.kill()


def test_old_gym_will_do(folder):
    pytest.importorskip("gym_notices")
    (folder / "gymnasium.py").write_text("raise ImportError('as if it were not installed')")
    code, out, err = run(folder, "--episodes", "6", "--env", "CartPole-v0")
    assert code == 1 and len(out) == 6 and all(map(LINE.fullmatch, out)) and len(err) == 1
    shipped(folder)
    assert run(folder, "--watch", "--gif", "play.gif") == (0, ["episode: 0/1, score: 500"], [])
    assert run(folder, "--watch", "--episodes", "1", SDL_VIDEODRIVER="dummy") == (0, ["episode: 0/1, score: 500"], [])


def test_the_readme_leads_to_the_right_lines():
    """Every `name` linked to lines of dqn.py is the function or the piece of text that is found there."""
    links = re.findall(r"\[`(.+?)`\]\(dqn\.py#L(\d+)-L(\d+)\)", (ROOT / "README.md").read_text())
    found = {node.name: (node.lineno, node.end_lineno) for node in ast.walk(ast.parse(SCRIPT)) if hasattr(node, "name")
             and hasattr(node, "lineno")}
    assert len(links) >= 8
    for name, first, last in links:
        if name in found:
            assert found[name] == (int(first), int(last)), name
        else:
            assert SCRIPT.splitlines()[int(first) - 1].strip().startswith(name), name


# Nothing lost, nothing cryptic


@pytest.mark.parametrize("args", ["--episodes 0", "--episodes -1", "--episodes x", "--seed -1", "--seed 4294967296",
                                  "--env Pendulum-v1", "--fast", "--weights x.h5", "--gif play.gif",
                                  "--gif play.png --watch", "--weights folder.weights.h5"])
def test_wrong_commands(folder, args):
    (folder / "folder.weights.h5").mkdir()
    code, out, err = run(folder, *args.split())
    assert (code, out, len(err)) == (2, [], 2) and err[0].startswith("usage:") and args.split()[0] in err[1]


def test_weights_that_cannot_be_loaded(folder):
    def network(units, value=0.0):
        keras = dqn.keras
        model = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, units)])
        model.set_weights([weight + np.float32(value) for weight in model.get_weights()])
        return model
    good = shipped(folder).read_bytes()
    Path(folder / "empty.weights.h5").touch()
    Path(folder / "truncated.weights.h5").write_bytes(good[:len(good) // 2])
    Path(folder / "text.weights.h5").write_text("balance the pole\n" * 1000)
    network([24, 24, 2]).save_weights(folder / "other.weights.h5")
    network([128, 128, 128, 2], np.nan).save_weights(folder / "nan.weights.h5")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "keras2.weights.h5", "w") as file:  # as Keras 2 laid it out
        file.attrs["layer_names"] = [b"dense_1"]
        file.create_group("dense_1").create_dataset("dense_1/kernel:0", data=np.zeros((4, 24)))
    for name, reason in [("missing", "No such file"), ("empty", "signature"), ("truncated", "truncated"),
                         ("text", "signature"), ("other", "could not be loaded"), ("nan", "NaN"),
                         ("keras2", "could not be loaded")]:
        code, out, err = run(folder, "--watch", "--weights", f"{name}.weights.h5")
        assert (code, out, len(err)) == (1, [], 1) and f"{name}.weights.h5" in err[0] and reason in err[0]
    assert shipped(folder).read_bytes() == good


def test_places_that_cannot_be_written(folder):
    shipped(folder)
    (folder / "file").touch()
    for args, path in [("--weights file/x.weights.h5", "file"), ("--weights /proc/x.weights.h5", "/proc"),
                       ("--weights /proc/x/x.weights.h5", "/proc/x"), ("--watch --gif nowhere/play.gif", "nowhere"),
                       ("--watch --gif /proc/play.gif", "/proc"), ("--watch --gif file/play.gif", "file")]:
        code, out, err = run(folder, *args.split())
        assert (code, out, len(err)) == (1, [], 1) and path in err[0]


def test_no_screen(folder):
    shipped(folder)
    for args in ["--watch"], ["--render"]:
        code, out, err = run(folder, *args)
        assert (code, out, len(err)) == (1, [], 1) and "--gif FILE" in err[0]
    assert run(folder, "--watch", SDL_VIDEODRIVER="none such")[::2] == (1, ["dqn.py: none such not available"])


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("after", [1, 2, 9, 30])
def test_signals_keep_the_best_and_the_solution(folder, number, code, after):
    solution = shipped(folder).read_bytes()
    process = start(folder, "--seed", str(after))
    for _ in range(after):
        assert process.stdout.readline()
    time.sleep(np.random.random() / 10)  # in a game, in a replay, in a check
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and len(err.splitlines()) == 1 and err.startswith("stopped")
    best, = folder.glob("save/*best*.weights.h5")
    assert str(best) in err
    scores(best, games=1)
    assert (folder / "save/cartpole-dqn.weights.h5").read_bytes() == solution


def test_a_signal_while_saving(folder):
    save = ("    agent.save(", "    os.kill(os.getpid(), signal.SIGINT)\n    agent.save(")
    (folder / "dqn.py").write_text(edited(SCRIPT, save))
    code, out, err = run(folder, "--episodes", "1")
    assert code == 130 and len(err) == 1
    scores(*folder.glob("save/*best*.weights.h5"), games=1)


def test_ctrl_c_before_the_training(folder):
    process = start(folder)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "") and process.returncode == -signal.SIGINT


def test_ctrl_c_while_watching(folder):
    shipped(folder)
    process = start(folder, "--watch", "--env", "CartPole-v0", SDL_VIDEODRIVER="dummy")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert err == "" and process.returncode == 0


def test_kill_9_while_saving_leaves_the_old_file_whole(folder):
    """The process kills itself at each of several points of the writing; the next run is none the wiser."""
    old = shipped(folder).read_bytes()
    for write in ["path.touch()", "path.write_bytes(b'half')", "agent.model.save_weights(path)"]:
        code = "import os, signal, dqn; agent = dqn.DQNAgent(dqn.gym.make('CartPole-v1')); " \
               f"dqn.write('save/cartpole-dqn.weights.h5', lambda path: ({write}, os.kill(os.getpid(), 9)))"
        assert subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT).returncode == -9
        assert (folder / "save/cartpole-dqn.weights.h5").read_bytes() == old
    assert run(folder, "--watch", "--gif", "play.gif")[0] == 0
    assert run(folder, "--episodes", "1")[0] == 1


def test_divergence_is_said_and_not_saved(folder):
    (folder / "dqn.py").write_text(edited(SCRIPT, ("learning_rate = 0.003 ", "learning_rate = 1e30 ")))
    code, out, err = run(folder)
    assert code == 1 and len(err) == 1 and "NaN" in err[0] and os.listdir(folder / "save") == []


def test_two_runs_at_once(folder):
    old = shipped(folder).read_bytes()
    both = [start(folder, "--episodes", "6", "--seed", seed) for seed in "12"]
    assert [process.wait() for process in both] == [1, 1]
    assert (folder / "save/cartpole-dqn.weights.h5").read_bytes() == old
    for name in folder.glob("save/*best*.weights.h5"):
        scores(name, games=1)
    assert not [name for name in os.listdir(folder / "save") if not name.startswith("cartpole-dqn.")]


@pytest.mark.parametrize("environment", [{"KERAS_BACKEND": "jax"}, {"KERAS_BACKEND": "torch"}, {"LANG": "C", "LC_ALL": "C"},
                                         {"CUDA_VISIBLE_DEVICES": ""}])
def test_surroundings(folder, tmp_path, environment):
    """Also from another folder, whose weights are then still those beside the script."""
    process = subprocess.run([sys.executable, folder / "dqn.py", "--episodes", "1"], cwd=tmp_path, text=True,
                             capture_output=True, env={**ENVIRONMENT, **environment})
    assert process.returncode == 1 and len(process.stderr.splitlines()) == 1
    assert len(process.stdout.splitlines()) == 1 and list(folder.glob("save/*best*.weights.h5"))


def test_output_closed_early(folder):
    process = start(folder)
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 1 and process.stderr.read() == "dqn.py: [Errno 32] Broken pipe\n"
