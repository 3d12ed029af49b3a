"""Deep Q Learning with Keras and Gym: Keon Kim's post of 2017 as a script that learns today.
`post:` marks what differs from it; the README's "Departures" says why.
"""
import argparse
import contextlib
import copy
import os
import signal
import sys
from collections import deque
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"  # next: no GPU, one thread, no talk
for setting in ("CUDA_VISIBLE_DEVICES=-1 TF_NUM_INTRAOP_THREADS=1 OPENBLAS_NUM_THREADS=1 "
                "TF_CPP_MIN_LOG_LEVEL=3 PYGAME_HIDE_SUPPORT_PROMPT=1 XDG_RUNTIME_DIR=/tmp "
                "SDL_FRAMEBUFFER_ACCELERATION=0").split():
    os.environ.setdefault(*setting.split("="))


@contextlib.contextmanager
def quiet_stderr():
    """Drop what is written to stderr, also by C++ code."""
    with open(os.devnull, "w") as devnull, os.fdopen(os.dup(2), "w") as stderr:
        os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr.fileno(), 2)


with quiet_stderr():  # TensorFlow writes there while it loads, whatever one sets
    import gymnasium as gym
    import keras
    import numpy as np
    import tensorflow as tf
    from keras.layers import Dense
    from matplotlib.figure import Figure


class DQNAgent:
    """The agent of "Putting It All Together"; one state has the shape (1, 4)."""
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=5000)  # post: [], which forgets nothing
        self.gamma = 0.99  # decay rate; post: 0.9
        self.epsilon = 1  # exploration
        self.epsilon_decay = .995  # per replay
        self.epsilon_min = 0.1
        self.learning_rate = 0.003  # post: 0.0001
        self.rmsprop_epsilon = 10  # post: 1e-8
        self.minibatch_size = 64  # post: 1
        self._build_model()

    def _build_model(self):
        model = keras.Sequential()
        model.add(keras.Input(shape=(4,)))  # post: Dense(128, input_dim=4, ...)
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        optimizer = keras.optimizers.RMSprop(self.learning_rate, epsilon=self.rmsprop_epsilon)
        model.compile(loss='mse', optimizer=optimizer, jit_compile=True)
        self.model = model
        self.weights = model.get_weights()
        # XLA compiles fit once (1 s); then a call takes 8 ms, not 15. On a Mac's GPU it is missing
        self.fit = tf.function(self.fit, jit_compile=model.jit_compile)

    def predict(self, state):
        """Return the value of each action, (n, 2), for states (n, 4)."""
        # The network's four matrix products in NumPy take 0.01 ms; post: model.predict, 58 ms
        w1, b1, w2, b2, w3, b3, w4, b4 = self.weights
        hidden = np.tanh(state @ w1 + b1)
        hidden = np.tanh(hidden @ w2 + b2)
        hidden = np.tanh(hidden @ w3 + b3)
        return hidden @ w4 + b4

    def fit(self, state, target_f):
        """Learn target_f, (n, 2), as the values of states (n, 4): a step for each minibatch."""
        # As model.fit(state, target_f, batch_size=minibatch_size, shuffle=False); it must divide n
        for rows in tf.reshape(tf.range(len(state)), (-1, self.minibatch_size)):
            self.model.train_step((tf.gather(state, rows), tf.gather(target_f, rows)))

    def remember(self, state, action, reward, next_state, done):
        """Append a frame to the memory ("Remember"); done: it was fatal."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return an action, random or the best known ("How The Agent Decides to Act")."""
        if np.random.rand() <= self.epsilon:
            return self.env.action_space.sample()
        act_values = self.predict(state)
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Learn from batch_size random memories, then explore a little less ("Replay")."""
        # post: one by one, at most len(memory); here all n = batch_size targets first, then the fit
        batches = [self.memory[i] for i in np.random.choice(len(self.memory), batch_size)]
        state, action, reward, next_state, done = map(np.squeeze, zip(*batches))  # (n, 4), (n,)
        # if not done, add the discounted future reward that the network predicts
        future = self.gamma * np.amax(self.predict(next_state), axis=1)
        target = np.where(done, reward, reward + future)
        # the action not taken keeps the value that the network gives it
        target_f = self.predict(state)
        target_f[np.arange(batch_size), action] = target
        self.fit(state, target_f)
        self.weights = self.model.get_weights()  # for predict
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay


def check_window(env):
    """Make closing the window a Ctrl-C; end where there is no screen."""
    if env.render_mode == "human":
        import pygame
        if pygame.display.get_driver() == "offscreen":
            sys.exit("dqn.py: there is no screen for a window; --gif FILE needs none")
        if pygame.QUIT in [event.type for event in pygame.event.get()]:
            raise KeyboardInterrupt


def play(agent, env):
    """Play without exploring, one game or many at once; return the frames until one ends."""
    state, _ = env.reset()
    for time_t in range(5000):
        state, _, terminated, truncated, _ = env.step(np.argmax(agent.predict(state), axis=-1))
        check_window(env)
        if np.any(terminated | truncated):
            return time_t + 1


def watch(agent, env, args):
    """Play with the saved weights: one game into args.gif, or else games in the window."""
    try:
        with quiet_stderr():  # Keras warns of what it does not find
            agent.model.load_weights(args.weights)
    except Exception as error:
        sys.exit(f"dqn.py: {args.weights}: {error}".splitlines()[0])
    agent.weights = agent.model.get_weights()
    if args.gif:
        from PIL import Image
        print("score:", play(agent, env))
        first, *rest = [Image.fromarray(frame).convert("P", dither=0) for frame in env.render()]
        return first.save(args.gif, "GIF", save_all=True, append_images=rest, duration=20, loop=0)
    with contextlib.suppress(KeyboardInterrupt):
        for e in range(args.episodes):
            print(f"episode: {e}/{args.episodes}, score: {play(agent, env)}")


def options():
    """Read the command line; a wrong one ends the program with one line and exit code 2."""
    parser = argparse.ArgumentParser()
    parser.error = lambda message: parser.exit(2, f"dqn.py: error: {message}\n")
    add = parser.add_argument
    add("--watch", action="store_true", help="play with saved weights, in a window")
    add("--gif", type=Path, metavar="FILE", help="play one game, into an animation")
    add("--render", action="store_true", help="train in a window")
    add("--episodes", type=int, metavar="N", default=1000, help="at most (%(default)s)")
    add("--seed", type=int, metavar="N", default=0, help="(%(default)s)")
    add("--weights", type=Path, default=Path(__file__).parent / "save/cartpole-dqn.weights.h5")
    return parser.parse_args()


if __name__ == "__main__":
    args = options()
    keras.utils.set_random_seed(args.seed)
    mode = "rgb_array_list" if args.gif else "human" if args.watch or args.render else None
    env = gym.make('CartPole-v1', render_mode=mode)  # post: CartPole-v0
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    output = args.gif or args.weights
    if not args.watch and not os.access(output.parent, os.W_OK):
        sys.exit(f"dqn.py: nothing can be saved in {output.parent}")
    if args.watch or args.gif:
        sys.exit(watch(agent, env, args))
    bar = env.spec.reward_threshold
    exam = gym.make_vec('CartPole-v1', 200, max_episode_steps=5000)
    exam.reset(seed=args.seed + 1)  # other starts
    scores, solved = [], False
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for e in range(args.episodes):  # Iterate the game; post: no early stop
            state, _ = env.reset()
            state = np.reshape(state, [1, 4])
            for time_t in range(5000):  # CartPole-v1 ends after 500
                check_window(env)  # post: env.render()
                action = agent.act(state)  # Decide action
                # Advance the game. terminated: the pole fell or the cart left the track; truncated:
                # the time is up, but the pole stands and has a future. post: `done` for both
                next_state, reward, terminated, truncated, _ = env.step(action)
                next_state = np.reshape(next_state, [1, 4])
                reward = -100 if terminated else reward  # punish -100 for dying
                agent.remember(state, action, reward, next_state, terminated)
                state = copy.deepcopy(next_state)
                if terminated or truncated:
                    print(f"episode: {e}/{args.episodes}, score: {time_t + 1}, "
                          f"epsilon: {agent.epsilon:.2f}", flush=True)
                    break
            scores.append(time_t + 1)
            solved = e >= 99 and np.mean(scores[-100:]) >= bar and play(agent, exam) == 5000
            if solved:
                break
            for _ in range(4):  # post: once
                agent.replay(2048)  # post: 32
    if not scores:
        sys.exit("dqn.py: no game was finished")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # saving is not to be interrupted
    name = str(args.weights).removesuffix(".weights.h5") + ("" if solved else ".unsolved")
    part = f"{name}.{os.getpid()}.weights.h5"
    agent.model.save_weights(part)
    os.replace(part, f"{name}.weights.h5")  # never leaves half a file
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    means = [np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))]
    axes.plot(scores, "C1.", means, "C0", [bar] * len(scores), "C2--")
    axes.legend(["each training game", "mean of the last 100", "Gym's bar"])
    axes.set(xlabel="game", ylabel="score (frames survived)")
    axes.figure.savefig(f"{name}.png")
    if not solved:
        sys.exit(f"not solved after {len(scores)} games; the last weights: {name}.weights.h5")
    print(f"solved after {len(scores)} games: {name}.weights.h5")
