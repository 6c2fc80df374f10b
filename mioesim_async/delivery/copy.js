"use strict";
{
  const told = document.getElementById("told");
  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.hidden = false;
    const before = button.textContent;
    button.addEventListener("click", async () => {
      const value = document.getElementById(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(value.textContent);
      } catch {
        getSelection().selectAllChildren(value);
        if (!document.execCommand("copy")) return;
        getSelection().removeAllRanges();
      }
      button.textContent = told.textContent = button.dataset.copied;
      setTimeout(() => { button.textContent = before; told.textContent = ""; }, 2000);
    });
  }
}
