// Sets of examples to start with: lists that are paired line by line. The two sides differ in one property only.

// Openings of stories: braces contain the words of either side.
const moods = [
  "The day was {lovely|dreadful}, and Mia felt {merry|weary}.",
  "Tom opened the door with {delight|sorrow} and {laughed|wept}.",
  '"What a {wonderful|terrible} morning!" said the gardener {happily|sadly}.',
  "In the garden, Lucy found a {pleasant|nasty} letter. It was a {glad|grim} day.",
  "The shepherd sat by the fire. His {happy|sad} face was full of {joy|tears}.",
  "Jack went to the beach and {grinned|frowned} at the {lovely|dreadful} sea.",
  "There was {glad laughter|bitter weeping} in the house by the mill.",
  "Emma heard the news and felt {cheerful|miserable}.",
  '"Such {pleasant|grim} weather!" the captain said {merrily|tearfully}.',
  "The {cheerful|weary} boy {danced|cried} behind the barn.",
  "Near the harbour, a {merry|gloomy} girl looked at the moon and {smiled|sighed}.",
  "With {joy|sorrow} in his heart, Leo walked home to his {happy|sad} brother.",
  "The horses were {lovely|nasty}, and the children {laughed|wept} {gladly|bitterly}.",
  "Anna's song was {wonderful|dreadful}. All the people {grinned|frowned}.",
  "It was the {merriest|saddest} evening of the year, said Frank {cheerfully|miserably}.",
  "Clara kept the {wonderful|terrible} secret, and her face was {glad|grim}.",
];

const voices = [
  "Tom {yelled|murmured} {loudly|softly} to the captain.",
  "The {booming|hushed} sea could be heard from the house.",
  "Mia {shouted|whispered} across the field, and the sheep heard her.",
  "A {noisy|quiet} crowd stood in the market.",
  '"Look at the ship!" {roared|breathed} the sailor {wildly|gently}.',
  "The {loud|soft} bell of the church rang {wildly|calmly}.",
  "Lucy {screamed|mumbled} her name {boldly|quietly}.",
  "The dogs were {loud|silent} that night, and the wind was {rough|mild}.",
  "With a {roar|whisper}, Jack closed the door.",
  "The children {shouted|murmured} in the {noisy|silent} school.",
  "Leo's {booming|gentle} voice came from the barn.",
  "The {rough|calm} river ran {noisily|quietly} past the mill.",
  'Anna {yelled|whispered}: "Come here!"',
  "There was a {loud thunder|soft rain} over the hills.",
];

// The texts of one side: 0 or 1.
const side = (texts, which) =>
  texts.map((text) => text.replace(/\{([^|}]*)\|([^}]*)\}/g, (_, ...sides) => sides[which]));

const registers = [
  ["I would be most grateful if you could assist me.", "Hey, could you help me out?"],
  ["We regret to inform you that the shop is closed.", "Sorry, the shop's shut."],
  ["Please find the requested document enclosed.", "Here's that thing you wanted."],
  ["I am writing to enquire about the position.", "So what's up with that job?"],
  ["It is with great pleasure that I accept.", "Yeah, sure, I'm in!"],
  ["Kindly refrain from speaking in the library.", "Shh, no talking in here."],
  ["The committee has reached a decision.", "Okay, they made up their minds."],
  ["Allow me to introduce my colleague.", "This is my buddy."],
  ["I must respectfully disagree with that view.", "Nah, I don't buy it."],
  ["Would you be so kind as to close the window?", "Shut the window, will you?"],
  ["The children were reprimanded for their conduct.", "The kids got told off."],
  ["We shall commence at nine o'clock.", "We kick off at nine."],
];

export const SETS = [
  { name: "happy", title: "Happy or sad openings of stories", positive: side(moods, 0), negative: side(moods, 1) },
  { name: "loud", title: "Loud or quiet openings of stories", positive: side(voices, 0), negative: side(voices, 1) },
  {
    name: "formal",
    title: "Formal or casual",
    positive: registers.map(([formal]) => formal),
    negative: registers.map(([, casual]) => casual),
  },
];
