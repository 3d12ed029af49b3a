"""Deep Q Learning with Keras and Gym: the script of Keon Kim's post of 2017, changed so it learns.

Read it beside the post (keon.github.io/deep-q-learning). `post:` gives the post's version, `not in
the post` marks an addition, and README.md has the reasons. What Keras 3 or Gymnasium ask for is not
marked.
"""
import argparse
import copy
import os
import sys
from collections import deque

# Not in the post: settings that must stand before the imports below
os.environ["KERAS_BACKEND"] = "tensorflow"
if __name__ == "__main__":
    os.environ.update(
        CUDA_VISIBLE_DEVICES="-1",  # a network as small as this needs no GPU
        TF_NUM_INTRAOP_THREADS="1", OPENBLAS_NUM_THREADS="1",  # and one thread is enough
        TF_CPP_MIN_LOG_LEVEL="3", PYGAME_HIDE_SUPPORT_PROMPT="1",  # hide most messages
        SDL_FRAMEBUFFER_ACCELERATION="0")  # else the window crashes on some screens
    # A script that a notebook starts inherits its MPLBACKEND, which can stop the import of Keras
    if "ipykernel" not in sys.modules:  # the notebook itself keeps it, for its pictures
        os.environ["MPLBACKEND"] = "agg"

import gymnasium as gym
import keras
import numpy as np
from keras.layers import Dense
from keras.models import Sequential
from keras.optimizers import RMSprop


# Deep-Q learning Agent
class DQNAgent:
    """The class of "Putting It All Together", for a game `env`. A state is an array (1, 4)."""
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=2000)  # the latest 2,000 frames; post: [], all frames
        self.gamma = 0.99  # decay rate: what a reward counts one frame later; post: 0.9
        self.epsilon = 1  # exploration: the share of random actions
        self.epsilon_decay = .995  # epsilon's factor in each replay
        self.epsilon_min = 0.1
        self.learning_rate = 0.001  # the size of a step; post: 0.0001
        self._build_model()

    def _build_model(self):
        # A state's four numbers go in, the values of the two actions come out. (With other
        # layers than Dense, change predict, too)
        model = Sequential()
        model.add(keras.Input(shape=(4,)))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        model.compile(loss='mse', optimizer=RMSprop(learning_rate=self.learning_rate))
        self.model = model
        # Not in the post: a copy of the weights, for predict. Repeat this line if you change them
        # (set_weights, load_weights), or put another model in place
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
        # Ask the network what each action is worth. post: self.model.predict(state)
        act_values = self.predict(np.atleast_2d(state))  # (1, 2)
        # Take the better one
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Train once, with n = batch_size memories, or fewer in a short memory ("Replay")."""
        # Draw n numbers of memories by lot, the same one perhaps twice
        batches = min(batch_size, len(self.memory))
        batches = np.random.choice(len(self.memory), batches)
        states = np.vstack([self.memory[i][0] for i in batches])  # (n, 4)
        next_states = np.vstack([self.memory[i][3] for i in batches])  # (n, 4)
        # Ask the network for all values at once. (Later papers take future from an older copy, a
        # "target network".) post: row by row, each after the fit of the last
        future = self.predict(next_states)  # (n, 2)
        target_f = self.predict(states)  # (n, 2)
        for row, i in enumerate(batches):
            _, action, reward, _, done = self.memory[i]
            # After a loss nothing follows: the target is the reward, -100
            target = reward
            if not done:
                # Otherwise add gamma times the value of the better action that can follow
                target = reward + self.gamma * np.amax(future[row])
            # Correct the action that was taken; the other one keeps the network's own value
            target_f[row][action] = target
        # One step of the optimizer, on the mean loss of the n rows. post: self.model.fit, in the
        # loop, a step for each row
        self.model.train_on_batch(states, target_f)
        self.weights = self.model.get_weights()  # not in the post
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    # Not in the post: the rest of the class (load and save are the author's later ones), and the
    # functions below it. On a first reading, go on to "Make the game", near the end

    def predict(self, states):
        """Do as model.predict, but faster: states (n, 4) give values (n, 2).

        It knows Dense layers only, with a bias and with the activations that it names. For others
        let it return self.model.predict_on_batch(states).
        """
        # act calls it in each frame: for one state, model.predict_on_batch takes dozens of times as
        # long, and model.predict thousands of times
        activations = {'tanh': np.tanh, 'relu': lambda x: np.maximum(x, 0), 'linear': lambda x: x}
        for layer, kernel, bias in zip(self.model.layers, self.weights[::2], self.weights[1::2],
                                       strict=True):
            states = activations[layer.activation.__name__](states @ kernel + bias)
        return states

    def load(self, name):
        """Read the weights in the file `name`, *.weights.h5, to play without exploring.

        Keras raises an OSError or a ValueError where there are none for this network.
        """
        self.model.optimizer.build(self.model.trainable_variables)  # unbuilt, it makes Keras warn
        self.model.load_weights(name)
        self.model.optimizer.learning_rate = self.learning_rate  # the file brings its own
        self.weights = self.model.get_weights()
        self.epsilon = 0

    def save(self, name):
        """Write the weights to the file `name`, *.weights.h5; an older one stays until the end."""
        part = f"{name}.{os.getpid()}.weights.h5"  # Keras asks for this ending
        self.model.save_weights(part)
        os.replace(part, name)


def sit_exam(agent, games):
    """Play new games (a vector environment) at once, without exploring; return how many are won."""
    states, _ = games.reset()
    lost = truncated = np.zeros(games.num_envs, bool)
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
        if gif:  # keep the picture in 256 colors: in all of them, 500 take .4 GB
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
    # Not in the post: the options, and playing with saved weights
    parser = argparse.ArgumentParser()
    parser.add_argument("--watch", action="store_true", help="play one game in a window")
    parser.add_argument("--gif", metavar="FILE.gif", help="play one game into an animation")
    parser.add_argument("--episodes", type=int, default=1000, help="the most games to train for")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another training")
    parser.add_argument("--weights", metavar="NAME", default="save/cartpole-dqn",
                        help="the player's file is NAME.weights.h5")
    args = parser.parse_args()
    name = args.weights.removesuffix(".weights.h5")
    if args.gif is not None and not args.gif.endswith(".gif"):
        parser.error("--gif needs a name that ends in .gif")
    if args.watch or args.gif:
        try:
            watch(f"{name}.weights.h5", args.gif)
        except (OSError, RuntimeError, ValueError) as error:  # no file, no screen, another network
            sys.exit(f"dqn.py: cannot show {name}.weights.h5: {error}".splitlines()[0])
        sys.exit()
    # Not in the post: float32, as a user's keras.json may say float16, which can end in NaN; and
    # seeds, so that a training can be repeated
    keras.config.set_floatx("float32")
    keras.utils.set_random_seed(args.seed)
    # Make the game (for another one see README.md, first), and the agent for it.
    # render_mode="human" shows all games in a window
    env = gym.make('CartPole-v1', render_mode=None)  # post: v0; env.render(), off, in the loop
    env.reset(seed=args.seed)  # not in the post; nor is the next line
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    # Not in the post: the exam's games, a file for the weights until it is passed, and the scores
    exam = gym.make_vec('CartPole-v1', 100)
    exam.reset(seed=args.seed + 10 ** 6)  # other games than those of the training
    unsolved = f"{name}.unsolved.weights.h5"
    os.makedirs(os.path.dirname(unsolved) or ".", exist_ok=True)
    print(f"the weights are saved in {unsolved}, every tenth game")
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
            next_state = np.reshape(next_state, [1, 4])
            # Gym gives a 1 for every frame, also the last: make a loss hurt
            reward = -100 if terminated else reward
            # Keep the frame for replay, with whether it lost the game
            agent.remember(state, action, reward, next_state, terminated)
            # Where this frame ended, the next one begins
            state = copy.deepcopy(next_state)
            # The game ends with the pole fallen, the cart off the track, or the time up
            if terminated or truncated:
                # Say how long it lasted, and leave the inner loop
                scores.append(time_t + 1)  # not in the post
                mean = np.mean(scores[-100:])  # not in the post; nor is epsilon, below
                print(f"episode: {e}/{args.episodes}, score: {time_t + 1}, "  # post: time_t
                      f"mean of last 100: {mean:.1f}, epsilon: {agent.epsilon:.2f}")
                break
        # Not in the post: stop when it is solved. Gym asks for a mean of 475 over 100 games. As the
        # network changed during these, its present weights must then win 100 new games, too.
        # (In an environment where a long game is no success, put False in place of the condition)
        exam_due = len(scores) >= 100 and mean >= 475
        if exam_due:
            won = sit_exam(agent, exam)
            print(f"exam: {won} of 100 games won")
            solved = won == 100
            if solved:
                break
        # Learn, if the game was lost, or the exam. post: after each game
        if terminated or exam_due:
            for _ in range(64):  # post: once. Each lowers epsilon, too
                agent.replay(32)
        # Not in the post: save the weights, every tenth game
        if e % 10 == 0:
            agent.save(unsolved)
    # Not in the post: save the player, and a curve. An unsolved one never replaces a solved one
    name = name if solved else f"{name}.unsolved"
    agent.save(f"{name}.weights.h5")
    save_curve(scores, f"{name}.png")
    if not solved:
        sys.exit(f"not solved after {len(scores)} games; its weights are in {unsolved}")
    print(f"solved after {len(scores)} games; the player is in {name}.weights.h5")
