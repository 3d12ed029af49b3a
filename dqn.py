"""Deep Q Learning with Keras and Gym: the agent of Keon Kim's post of 2017, learning to play, on today's packages.
Read it beside the post: what differs says `post:` where it stands, and the README's "Departures" says why."""
import argparse
import copy
import os
import sys
import warnings
from pathlib import Path

os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3",
                  OPENBLAS_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1",  # with more, two runs at once hinder each other
                  PYGAME_HIDE_SUPPORT_PROMPT="1", SDL_FRAMEBUFFER_ACCELERATION="0")  # Mesa's crashes beside TensorFlow
stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # TensorFlow and Gym print while they load, whatever one sets
try:
    import keras
    import numpy as np
    import pygame
    import tensorflow as tf
    from keras import Input, Sequential
    from keras.layers import Dense
    from keras.optimizers import RMSprop
    from matplotlib.figure import Figure
    from PIL import Image
    try:
        import gymnasium as gym
    except ImportError:
        import gym  # the post's package, unmaintained since 2022
        gym.make_vec = lambda *args, **kwargs: gym.vector.make(*args, False, disable_env_checker=True, **kwargs)
finally:
    os.dup2(stderr, 2)


class DQNAgent:
    """The agent of the post's "Putting It All Together", for Gym's CartPole; a state is an array of shape (1, 4)."""
    def __init__(self, env):
        self.env = env
        self.memory = []
        self.gamma = 0.99  # decay rate; post: 0.9, see README "Departures"
        self.epsilon = 1  # exploration
        self.epsilon_decay = .98  # post: .995, see README "Departures"
        self.epsilon_min = 0.1
        self.learning_rate = 0.0015  # post: 0.0001, see README "Departures"
        self._build_model()

    def _build_model(self):
        model = Sequential()
        model.add(Input(shape=(4,)))  # post: input_dim=4 in the next line, which Keras 3 warns about
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        model.compile(loss='mse', optimizer=RMSprop(learning_rate=self.learning_rate))  # post: lr, its name then
        model.optimizer.build(model.trainable_variables)  # or the first fit would, and be compiled twice
        self.model = model
        self.weights = model.get_weights()  # NumPy: kernel, bias, kernel, bias...; renewed when the model's change

    def predict(self, state):
        """post: model.predict; the same in NumPy, (..., 4) -> (..., 2): 0.01 ms a state, predict_on_batch takes 0.4."""
        for kernel, bias in zip(self.weights[:-2:2], self.weights[1:-2:2]):
            state = np.tanh(state @ kernel + bias)
        return state @ self.weights[-2] + self.weights[-1]

    def fit(self, state, target_f, batch_size):
        """post: model.fit, of one sample; here of (n, 4) and (n, 2), minibatch after minibatch of batch_size rows."""
        self._fit(state.reshape(-1, batch_size, 4), target_f.reshape(-1, batch_size, 2))
        self.weights = self.model.get_weights()

    @tf.function(jit_compile=True)  # compiled as a whole: 8 ms a fit; train_on_batch takes 50
    def _fit(self, states, targets):
        for i in tf.range(len(states)):
            self.model.train_step((states[i], targets[i]))

    def remember(self, state, action, reward, next_state, done):
        """Append a transition to the memory ("Remember"); done: next_state is the end, nothing follows."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return a random action with probability epsilon, else the best one ("How The Agent Decides to Act")."""
        if np.random.rand() <= self.epsilon:
            return self.env.action_space.sample()  # post: env, from outside the class
        act_values = self.predict(state)
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Learn from randomly chosen memories, then explore a little less ("Replay")."""
        # post: batch_size samples, target and fit for each; here batch_size minibatches of batch_size, targets first
        batches = np.random.choice(len(self.memory), batch_size ** 2)  # post: min(batch_size, len(self.memory))
        state, action, reward, next_state, done = zip(*[self.memory[i] for i in batches])
        state, next_state = np.concatenate(state), np.concatenate(next_state)  # n = batch_size ** 2 rows: (n, 4)
        # if done, the reward, else the discounted future on top of it, as the network sees it now: (n,)
        target = np.where(done, reward, reward + self.gamma * np.amax(self.predict(next_state), axis=1))
        # what the network itself says, (n, 2), but for the action taken
        target_f = self.predict(state)
        target_f[np.arange(len(target_f)), action] = target
        self.fit(state, target_f, batch_size)
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    def load(self, name):
        """Take the weights from the file `name`; an error, mostly OSError or ValueError, if it holds none that fit."""
        self.model.load_weights(name)
        self.weights = self.model.get_weights()

    def save(self, name):
        """Write the weights (and RMSprop's state) to the file `name`, NAME.weights.h5, which at any moment is whole."""
        self.model.save_weights(f"{name}.{os.getpid()}.weights.h5")
        os.replace(f"{name}.{os.getpid()}.weights.h5", name)


def play(agent, env):
    """Play without exploring, a game or, in a vector environment, many at once; return the frames until one ended."""
    state, _ = env.reset(seed=np.random.randint(2 ** 31))  # a fresh random start
    for time_t in range(5000):
        state, _, terminated, truncated, _ = env.step(np.argmax(agent.predict(state), axis=-1))
        if pygame.display.get_init() and pygame.event.get(pygame.QUIT):
            raise KeyboardInterrupt  # the window was closed
        if np.any(terminated | truncated):
            return time_t + 1


def watch(agent, env, args):
    """Play with the weights saved, in env's window or into an animation; return an error's one line, or None."""
    warnings.simplefilter("ignore")  # Keras warns of a file without RMSprop's state
    try:
        agent.load(args.weights)
        for e in range(args.episodes):
            print("episode: {}/{}, score: {}".format(e, args.episodes, play(agent, env)))
            if args.gif:
                frames = [Image.fromarray(frame).convert("P", dither=0) for frame in env.render()]
                return frames[0].save(args.gif, save_all=True, append_images=frames[1:], duration=20, loop=0)
    except (OSError, ValueError, KeyError, RuntimeError, KeyboardInterrupt) as error:  # the last: no text
        return f"dqn.py: watching {args.weights}: {error}".splitlines()[0] if str(error) else None


def plot(scores, greedy, name):
    """Draw the learning curve into the picture `name`: each game's score, and that of the one without exploring."""
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    axes.plot(scores, "C1.", label="training")
    axes.plot(greedy, "C0", label="without exploring")
    axes.axhline(22, color="gray", linestyle="--", label="random play, on average")
    axes.set(xlabel="game", ylabel="score (frames survived)", yscale="log", ylim=(5, 7000))
    axes.legend(loc="lower right")
    axes.figure.savefig(name)


def options():
    """Read the command line; a wrong one ends the program with a line on stderr and exit code 2."""
    weights = Path(__file__).parent / "save" / "cartpole-dqn.weights.h5"
    weights.parent.mkdir(exist_ok=True)
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__.splitlines()[0])
    parser.add_argument("--watch", action="store_true", help="don't train, play in a window with the saved weights")
    parser.add_argument("--gif", type=Path, metavar="FILE", help="with --watch: play one game, into an animation")
    parser.add_argument("--render", action="store_true", help="show the games of the training in a window")
    parser.add_argument("--episodes", type=int, metavar="N", default=1000, help="play N games at most (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="start of the random numbers (%(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", default=weights, help="NAME.weights.h5 (%(default)s)")
    args = parser.parse_args()
    if args.episodes < 1 or not 0 <= args.seed < 2 ** 31 or args.gif and not args.watch:
        parser.error("--episodes must be at least 1, --seed from 0 to 2147483647, and --gif goes with --watch")
    for name, file, suffix in ("--weights", args.weights, ".weights.h5"), ("--gif", args.gif, ".gif"):
        if file and (not file.name.endswith(suffix) or file.is_dir() or not file.parent.is_dir()):
            parser.error(f"{name} {file}: must be a file named NAME{suffix} in a folder that exists")
    args.render_mode = "rgb_array_list" if args.gif else "human" if args.watch or args.render else None
    if sys.platform == "linux" and not any(map(os.getenv, ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))):
        os.environ["SDL_VIDEODRIVER"] = "dummy"  # or SDL complains
        if args.render_mode == "human":
            parser.error("there is no screen to open a window on; --watch --gif FILE does without")
    return args


if __name__ == "__main__":
    args = options()
    keras.utils.set_random_seed(args.seed)
    env = gym.make('CartPole-v1', render_mode=args.render_mode, disable_env_checker=True)  # post: CartPole-v0
    agent = DQNAgent(env)
    if args.watch:
        sys.exit(watch(agent, env, args))
    # post: judged by eye; here solved when, without exploring, none of these ends early, `game` three times in a row
    game = gym.make('CartPole-v1', max_episode_steps=5000, disable_env_checker=True)
    games = gym.make_vec('CartPole-v1', 200, max_episode_steps=5000)
    starts = gym.make_vec('CartPole-v1', 1000, max_episode_steps=500)
    env.reset(seed=args.seed)  # post: not seeded
    env.action_space.seed(args.seed)
    scores, greedy, solved = [], [], False
    try:
        # Iterate the game
        for e in range(args.episodes):  # post: episodes
            state, _ = env.reset()  # post: the state alone
            state = np.reshape(state, [1, 4])
            for time_t in range(5000):  # post: env.render() follows, if one wants; here --render
                action = agent.act(state)
                next_state, reward, terminated, truncated, _ = env.step(action)  # post: done, for the middle two
                next_state = np.reshape(next_state, [1, 4])
                # 1 for a frame survived, -100 for dying; post: -100 if done, so at the time limit too
                reward = -100 if terminated else reward
                # post: done; but after the time limit (truncated) the pole still stands, and could be kept up
                agent.remember(state, action, reward, next_state, terminated)
                state = copy.deepcopy(next_state)
                if terminated or truncated:  # post: done
                    # post: time_t, one frame fewer, and no epsilon
                    print("episode: {}/{}, score: {}, epsilon: {:.2f}"
                          .format(e, args.episodes, time_t + 1, agent.epsilon))
                    break
            agent.replay(48)  # post: 32
            if not np.isfinite(agent.weights[-1]).all():
                sys.exit("dqn.py: the learning diverged: there are NaN or infinite weights")
            scores.append(time_t + 1)
            greedy.append(play(agent, game))
            solved = greedy[-3:] == [5000] * 3 and play(agent, games) == 5000 and play(agent, starts) == 500
            if solved:
                break
    except KeyboardInterrupt:
        pass
    name = str(args.weights).removesuffix(".weights.h5") + ("" if solved else ".unsolved")
    agent.save(f"{name}.weights.h5")
    plot(scores, greedy, f"{name}.png")
    if not solved:
        sys.exit(f"not solved after {len(scores)} games; the last weights: {name}.weights.h5")
    print(f"solved after {len(scores)} games: 200 of 200 games without exploring lasted 5000 frames: {name}.weights.h5")
