// Before the first paint: the theme that was chosen, or none for the system's.
try {
  const chosen = localStorage.getItem("taskfleet.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // No storage: the system's theme.
}
