"""The study that came before (Ayala-Ruano, Img2brain v1.0.0, 2023): its layers, its published scores, its files."""
