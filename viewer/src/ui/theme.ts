// Light or dark: the system's, until somebody chooses.

const KEY = "geodistill-theme";

export class Theme {
  changed: (dark: boolean) => void = () => {};
  private readonly system = matchMedia("(prefers-color-scheme: dark)");

  constructor() {
    this.system.addEventListener("change", () => this.apply());
    this.apply();
  }

  get dark(): boolean {
    const chosen = stored();
    return chosen ? chosen === "dark" : this.system.matches;
  }

  toggle(): void {
    const wanted = this.dark ? "light" : "dark";
    const system = this.system.matches ? "dark" : "light";
    // Back at what the system says, the page follows it again.
    store(wanted === system ? null : wanted);
    this.apply();
  }

  apply(): void {
    document.documentElement.dataset["theme"] = this.dark ? "dark" : "light";
    this.changed(this.dark);
  }
}

// A page opened from a file may be refused its storage.
let remembered: string | null = null;

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return remembered;
  }
}

function store(theme: string | null): void {
  remembered = theme;
  try {
    if (theme) localStorage.setItem(KEY, theme);
    else localStorage.removeItem(KEY);
  } catch {
    // remembered for this page alone
  }
}
