// The page's voice: the browser's own speech, one sentence at a time, never behind the text; it chooses no words.
const TAGS = { en: /^en\b/i, zh: /^(zh|cmn)\b/i };

export class Voice {
  #last = "";
  #muted;
  #changed;

  // `changed` is called when a voice appears: browsers load them late. Muted or not outlives the page.
  constructor(changed) {
    this.#changed = changed;
    this.#muted = localStorage.getItem("muted") === "yes";
    window.speechSynthesis?.addEventListener("voiceschanged", () => this.#changed());
  }

  get muted() {
    return this.#muted;
  }

  // Without a voice for the language there is nothing to mute.
  speaks(language) {
    return this.#voice(language) !== undefined;
  }

  toggle() {
    this.#muted = !this.#muted;
    localStorage.setItem("muted", this.#muted ? "yes" : "no");
    this.#last = "";
    window.speechSynthesis?.cancel();
  }

  // What is said before is cut off: the newest text is the one on the screen.
  say(text, language) {
    const voice = this.#voice(language);
    if (this.#muted || voice === undefined || text === this.#last) return;
    this.#last = text;
    window.speechSynthesis.cancel();
    if (!text) return;
    const said = new SpeechSynthesisUtterance(text);
    said.voice = voice;
    said.lang = voice.lang;
    said.rate = 0.95;
    window.speechSynthesis.speak(said);
  }

  #voice(language) {
    return window.speechSynthesis?.getVoices().find((voice) => TAGS[language].test(voice.lang));
  }
}
