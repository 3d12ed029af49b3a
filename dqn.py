"""Deep Q Learning with Keras and Gym: Keon Kim's script of 2017, changed so that it learns.

Read it beside the post (keon.github.io/deep-q-learning). `post:` is followed by what stands there
instead; README.md has the reasons.
"""
import argparse
import copy
import os
import sys
import tempfile
from collections import deque

# Not in the post: settings that must stand before the imports below
os.environ["KERAS_BACKEND"] = "tensorflow"
if __name__ == "__main__":
    os.environ.update(
        CUDA_VISIBLE_DEVICES="-1",  # a network as small as this needs no GPU
        TF_NUM_INTRAOP_THREADS="1", OPENBLAS_NUM_THREADS="1",  # and one thread is enough
        TF_CPP_MIN_LOG_LEVEL="3", PYGAME_HIDE_SUPPORT_PROMPT="1",  # hide most messages
        SDL_FRAMEBUFFER_ACCELERATION="0")  # else the window crashes on some screens
    if "ipykernel" not in sys.modules:  # a notebook keeps its own, for its pictures
        # The one that a script inherits from a notebook can stop the import of Keras. This one
        # opens no windows: take it out for a plt.show() of your own
        os.environ["MPLBACKEND"] = "agg"

import gymnasium as gym
import keras
import numpy as np
from keras.layers import Dense
from keras.models import Sequential
from keras.optimizers import RMSprop


# Deep-Q learning Agent
class DQNAgent:
    """An agent that learns to play `env` ("Putting It All Together" in the post).

    A state is an array (1, 4): the cart's position and velocity, the pole's angle and its angular
    velocity. An action is 0, a push to the left, or 1, to the right.
    """
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=2000)  # the latest 2,000 frames; post: [], all frames
        self.gamma = 0.99  # decay rate: what a reward counts one frame later; post: 0.9
        self.epsilon = 1  # exploration: the share of random actions
        self.epsilon_decay = .995  # its factor in each replay, 64 a lost game; post: one a game
        self.epsilon_min = 0.1
        self.learning_rate = 0.001  # the size of a step; post: 0.0001
        self._build_model()

    def _build_model(self):
        # A state's four numbers go in, the values of the two actions come out
        model = Sequential()
        model.add(keras.Input(shape=(4,)))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        # The optimizer reads learning_rate once, here
        model.compile(loss='mse', optimizer=RMSprop(learning_rate=self.learning_rate))
        self.model = model
        # Not in the post: predict, below, computes with this copy of the weights. Repeat the line
        # after any change of yours (set_weights, load_weights, another model), or predict misses it
        self.weights = self.model.get_weights()

    def remember(self, state, action, reward, next_state, done):
        """Append one frame to the memory ("Remember"). done: True if the game was lost in it."""
        # post: done also if its time was up
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return an action, 0 or 1, for a state, (1, 4) or (4,) ("How The Agent Decides...")."""
        if np.random.rand() <= self.epsilon:
            # Explore: any action
            return self.env.action_space.sample()  # post: env, the global one
        # Ask the network what each action is worth
        act_values = self.predict(np.atleast_2d(state))  # (1, 2); post: self.model.predict
        # Take the better one
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Train once, on n = batch_size frames (or the memory's length, if less) ("Replay")."""
        # Draw n of the memory's frames at random. (One may come twice)
        batches = min(batch_size, len(self.memory))
        batches = np.random.choice(len(self.memory), batches)
        states = np.vstack([self.memory[i][0] for i in batches])  # (n, 4)
        next_states = np.vstack([self.memory[i][3] for i in batches])  # (n, 4)
        # Ask the network for the values of all, before it changes. post: in the loop, a row at a
        # time, after the fit of the last. (DQN's paper of 2015 has an older copy of the network
        # answer for next_states, a "target network")
        future = self.predict(next_states)  # (n, 2)
        target_f = self.predict(states)  # (n, 2)
        for row, i in enumerate(batches):
            _, action, reward, _, done = self.memory[i]
            # The target is what the network should have said: the reward, if the game was lost ...
            target = reward
            if not done:
                # ... else also gamma times the value of the better action in the next state
                target = reward + self.gamma * np.amax(future[row])
            # It is the value of the action taken. The other's stays as it is: nothing was learnt
            target_f[row][action] = target
        # Change the network, so that its answers move a step towards target_f. post: in the loop,
        # self.model.fit, a step for each row
        self.model.train_on_batch(states, target_f)
        self.weights = self.model.get_weights()  # act and the next targets come from this copy
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    # Not in the post: all that follows, up to "Make the game" near the end, where a first reading
    # goes on. (The names load and save are from its author's later code)

    def predict(self, states):
        """Do as model.predict, but faster: states (n, 4) give values (n, 2).

        It knows a Sequential of Dense layers, with a bias and with the activations that it names.
        For any other model let it return self.model.predict_on_batch(states).
        """
        # act calls it in each frame: for one state, model.predict_on_batch takes dozens of times as
        # long, and model.predict thousands of times
        activations = {'tanh': np.tanh, 'relu': lambda x: np.maximum(x, 0), 'linear': lambda x: x}
        layers = zip(self.model.layers, self.weights[::2], self.weights[1::2], strict=True)
        for layer, kernel, bias in layers:  # an error? The docstring says what to do
            activation = activations[layer.activation.__name__]  # an error? See the docstring
            states = activation(states @ kernel + bias)  # an error? See the docstring
        return states

    def load(self, name):
        """Read the weights in the file `name`, *.weights.h5, and set epsilon to 0.

        Keras raises an OSError or a ValueError where there are none for this network.
        """
        self.model.optimizer.build(self.model.trainable_variables)  # unbuilt, it makes Keras warn
        self.model.load_weights(name)
        self.model.optimizer.learning_rate = self.learning_rate  # the file brings its own
        self.weights = self.model.get_weights()
        self.epsilon = 0

    def save(self, name):
        """Write the weights to the file `name`, *.weights.h5; Keras refuses any other ending."""
        # An older file is replaced when the new one is whole
        folder, file = os.path.split(name)
        part = os.path.join(folder, f"{os.getpid()}.{file}")
        self.model.save_weights(part)
        os.replace(part, name)


def sit_exam(agent, games):
    """Play new games (a vector environment) side by side, without exploring; count those won."""
    states, _ = games.reset()
    lost = truncated = np.zeros(games.num_envs, bool)
    # All begin together, so when the first one's time is up, each that was not lost is won
    while not (np.any(truncated) or np.all(lost)):
        actions = np.argmax(agent.predict(states), axis=1)
        states, _, terminated, truncated, _ = games.step(actions)
        lost = lost | terminated  # a lost game begins anew by itself, but stays lost
    return np.sum(~lost)


def watch(weights, gif):
    """Play one game with the weights of a file: in a window, or into the file `gif`, if named."""
    if gif:
        from PIL import Image
        os.environ["SDL_VIDEODRIVER"] = "dummy"  # it needs no screen
    else:
        import pygame
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":
            raise RuntimeError("there is no screen for a window; --gif FILE needs none")
    env = gym.make('CartPole-v1', render_mode="rgb_array" if gif else "human")
    agent = DQNAgent(env)
    agent.load(weights)
    state, _ = env.reset()
    score, terminated, truncated, images = 0, False, False, []
    while not (terminated or truncated):
        state, _, terminated, truncated, _ = env.step(agent.act(state))
        score += 1
        if gif:  # in 256 colors: with all colors, 500 images take .4 GB
            image = Image.fromarray(env.render())
            images.append(image.convert("P", dither=Image.Dither.NONE))
    env.close()
    if gif:
        images[0].save(gif, save_all=True, append_images=images[1:], duration=20, loop=0)
    print(f"score: {score}, played by {weights}")


def save_curve(scores, name):
    """Save a picture of the training games' scores, and of the mean of the last 100."""
    from matplotlib.figure import Figure
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    axes.plot(scores, "C1.", label="each training game")
    axes.plot([np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))], "C0",
              label="mean of the last 100")
    axes.axhline(475, color="C2", linestyle="--", label="Gym's bar")
    axes.set(xlabel="game", ylabel="score (frames survived)")
    axes.legend()
    axes.figure.savefig(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--watch", action="store_true", help="play one game in a window")
    parser.add_argument("--gif", metavar="FILE.gif", help="play one game into an animation")
    parser.add_argument("--episodes", type=int, default=1000, help="the most games to train for")
    parser.add_argument("--seed", type=int, default=0,
                        help="start of the random numbers: each seed is a training of its own")
    parser.add_argument("--weights", metavar="NAME", default="save/cartpole-dqn",
                        help="a training writes NAME.weights.h5, --watch and --gif read it")
    args = parser.parse_args()
    name = args.weights.removesuffix(".weights.h5")
    solved_file, unsolved_file = f"{name}.weights.h5", f"{name}.unsolved.weights.h5"
    if args.gif is not None and not args.gif.endswith(".gif"):
        parser.error("--gif needs a name that ends in .gif")
    if args.watch or args.gif:
        try:
            watch(solved_file, args.gif)
        except (OSError, RuntimeError) as error:  # no file, no screen
            sys.exit(f"dqn.py: cannot show {solved_file}: {error}".splitlines()[0])
        except ValueError as error:
            sys.exit(f"dqn.py: is {solved_file} of another network? {error}".splitlines()[0])
        sys.exit()
    keras.config.set_floatx("float32")  # whatever the user's keras.json says
    keras.utils.set_random_seed(args.seed)  # so that a training can be repeated
    # Make the game (for another one see README.md, first), and the agent for it.
    # render_mode="human" shows all games in a window
    env = gym.make('CartPole-v1', render_mode=None)  # post: v0; render_mode was env.render()
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    # Not in the post: the exam's games, a folder that can be written to, and the scores
    exam = gym.make_vec('CartPole-v1', 100)
    exam.reset(seed=args.seed + 10 ** 6)  # other games than those of the training
    folder = os.path.dirname(name) or "."
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # an error here is better than after ten games
    print(f"the weights are saved in {unsolved_file}, every tenth game")
    scores, solved = [], False
    # Iterate the game
    for e in range(args.episodes):  # post: episodes
        # A new game starts with the pole nearly upright
        state, _ = env.reset()
        state = np.reshape(state, [1, 4])
        # time_t counts the frames that the pole stays up. CartPole-v1 ends a game after 500, the
        # post's v0 after 200, so 5,000 is never reached
        for time_t in range(5000):
            # Decide action
            action = agent.act(state)
            # Push the cart, and see what has come of it. terminated: the game is lost. truncated:
            # its 500 frames are over, which is no loss: no -100, and the future counts. post: done,
            # for both
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, 4])  # scale it? Then in exam and watch, too
            # Gym gives a 1 for every frame, also the last: make a loss hurt
            reward = -100 if terminated else reward
            # Keep the frame for replay, with whether it lost the game
            agent.remember(state, action, reward, next_state, terminated)
            # Where this frame ended, the next one begins
            state = copy.deepcopy(next_state)
            # The game ends with the pole fallen, the cart off the track, or the time up
            if terminated or truncated:
                # Say how long it lasted, and leave the inner loop
                scores.append(time_t + 1)
                mean = np.mean(scores[-100:])
                print(f"episode: {e}/{args.episodes}, score: {time_t + 1}, "  # post: time_t
                      f"mean of last 100: {mean:.1f}, epsilon: {agent.epsilon:.2f}", flush=True)
                break
        # Not in the post: stop when it is solved. Gym asks for a mean of 475 over 100 games. As the
        # network changed during these, its present weights must then win 100 new games, too
        exam_due = len(scores) >= 100 and mean >= 475  # CartPole-v0: 195
        if exam_due:
            won = sit_exam(agent, exam)
            print(f"exam: {won} of 100 games won")
            solved = won == 100
            if solved:
                break
        # Learn, if the game was lost, or the exam failed. post: after each game, also a won one
        if terminated or exam_due:
            # post: once. Each lowers epsilon: it is .1 after 8 lost games, in the post after 460
            for _ in range(64):
                agent.replay(32)
        # Not in the post: save the weights, every tenth game
        if len(scores) % 10 == 0:
            agent.save(unsolved_file)
    # Not in the post: save the player, and a curve. An unsolved one never replaces a solved one
    agent.save(solved_file if solved else unsolved_file)
    save_curve(scores, f"{name}.png" if solved else f"{name}.unsolved.png")
    if not solved:
        sys.exit(f"not solved after {len(scores)} games; its weights are in {unsolved_file}")
    print(f"solved after {len(scores)} games; the player is in {solved_file}")
